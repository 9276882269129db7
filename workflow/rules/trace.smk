"""trace: the real trace, or its twin, as one checked table."""

if config["trace"]["source"] == "twin":

    rule trace_twin:
        input:
            layout.published_files(),
        output:
            trace=f"{root}/trace/trace.parquet",
            window=f"{root}/trace/window.csv",
        log:
            f"{root}/logs/trace/twin.log",
        benchmark:
            f"{root}/benchmarks/trace/twin.tsv"
        conda:
            "../../envs/runtime.yaml"
        resources:
            **cluster.of_light(mem_mb=3000, runtime=10),
        params:
            settings=as_json(
                config["trace"]["twin"],
                {
                    key: value
                    for key, value in layout.reading.items()
                    if key in ("start", "days", "window")
                },
                seed=config["seed"],
            ),
            code=code("trace.twin"),
        message:
            "Make the twin of BurstGPT from published numbers"
        shell:
            "burstbench trace twin --settings {params.settings:q} --published data/published"
            " --out {output.trace} --window {output.window} 2> {log}"

else:

    rule trace_read:
        input:
            layout.trace_files(),
        output:
            trace=f"{root}/trace/trace.parquet",
            window=f"{root}/trace/window.csv",
        log:
            f"{root}/logs/trace/read.log",
        benchmark:
            f"{root}/benchmarks/trace/read.tsv"
        conda:
            "../../envs/runtime.yaml"
        resources:
            **cluster.of_light(mem_mb=4000, runtime=10),
        params:
            settings=as_json(layout.reading),
            code=code("trace.read"),
        message:
            "Read the trace {input}"
        shell:
            "burstbench trace read --settings {params.settings:q} --csv {input}"
            " --out {output.trace} --window {output.window} 2> {log}"


rule trace_check:
    input:
        layout.published_files(),
        trace=layout.trace,
    output:
        f"{root}/trace/check.csv",
    log:
        f"{root}/logs/trace/check.log",
    benchmark:
        f"{root}/benchmarks/trace/check.tsv"
    conda:
        "../../envs/runtime.yaml"
    resources:
        **cluster.of_light(mem_mb=3000, runtime=10),
    params:
        settings=as_json(layout.calendar),
        code=code("trace.check"),
    message:
        "Compare the trace with the published numbers"
    shell:
        "burstbench trace check --settings {params.settings:q} --trace {input.trace} --published data/published"
        " --out {output} 2> {log}"
