package ckptferry.lab;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** A command line: {@code --name value} pairs (the last one wins, except where all are asked for) and positional words. */
final class Options {
    private final Map<String, List<String>> named = new LinkedHashMap<>();
    final List<String> positional = new ArrayList<>();

    static Options parse(String[] args, int from) {
        Options o = new Options();
        for (int i = from; i < args.length; i++) {
            if (!args[i].startsWith("--")) {
                o.positional.add(args[i]);
                continue;
            }
            if (i + 1 == args.length) throw new IllegalArgumentException(args[i] + " needs a value");
            o.named.computeIfAbsent(args[i].substring(2), k -> new ArrayList<>()).add(args[++i]);
        }
        return o;
    }

    boolean has(String name) {
        return named.containsKey(name);
    }

    String text(String name, String otherwise) {
        List<String> all = all(name);
        return all.isEmpty() ? otherwise : all.get(all.size() - 1);
    }

    String required(String name) {
        if (!has(name)) throw new IllegalArgumentException("--" + name + " is needed");
        return text(name, null);
    }

    int number(String name, int otherwise) {
        return Integer.parseInt(text(name, Integer.toString(otherwise)));
    }

    boolean yes(String name, boolean otherwise) {
        return Boolean.parseBoolean(text(name, Boolean.toString(otherwise)));
    }

    List<String> all(String name) {
        return named.getOrDefault(name, new ArrayList<>());
    }
}
