package ckptferry.lab;

import org.apache.flink.streaming.api.functions.source.RichParallelSourceFunction;

/** The one class of ours whose parent lives in another package in Flink 1.x than in 2.x. */
public abstract class LegacySource<T> extends RichParallelSourceFunction<T> {}
