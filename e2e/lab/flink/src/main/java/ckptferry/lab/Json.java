package ckptferry.lab;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.JsonNode;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;

/** JSON by the library that every Flink brings along under this name. */
final class Json {
    private static final ObjectMapper MAPPER = new ObjectMapper();

    static String pretty(Object o) throws IOException {
        return MAPPER.writerWithDefaultPrettyPrinter().writeValueAsString(o) + "\n";
    }

    static String line(Object o) throws IOException {
        return MAPPER.writeValueAsString(o);
    }

    static JsonNode read(Path file) throws IOException {
        return MAPPER.readTree(Files.readAllBytes(file));
    }

    static void write(Path file, Object o) throws IOException {
        Files.write(file, pretty(o).getBytes(StandardCharsets.UTF_8));
    }

    private Json() {}
}
