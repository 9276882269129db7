"""metrics: failure rate, latency and throughput of each experiment's cells, whichever engine ran them."""


rule metrics_summarise:
    input:
        lambda wildcards: layout.cell_files(wildcards.experiment),
        lambda wildcards: layout.repeat_files(wildcards.experiment),
        unpack(lambda wildcards: layout.repeat_tables(wildcards.experiment)),
    output:
        cells=f"{root}/metrics/{{experiment}}/cells.parquet",
        summary=f"{root}/metrics/{{experiment}}/summary.parquet",
        timeline=f"{root}/metrics/{{experiment}}/timeline.parquet",
    log:
        f"{root}/logs/metrics/{{experiment}}.log",
    benchmark:
        f"{root}/benchmarks/metrics/{{experiment}}.tsv"
    conda:
        "../../envs/runtime.yaml"
    resources:
        **cluster.of_light(mem_mb=3000, runtime=20),
    params:
        settings=lookup("{experiment}", within=layout.metrics_settings()),
        cells=lambda wildcards: layout.cell_options(wildcards.experiment),
        repeat=lambda wildcards: layout.repeat_options(wildcards.experiment),
        # Where the cells are repeated here, too, the simulator is imported by name.
        code=code("metrics.summarise")
        | (code("metrics.sweep") if config["engine"] == "simulator" else {}),
    message:
        "Measure the cells of {wildcards.experiment}"
    shell:
        "burstbench metrics summarise --settings {params.settings:q} {params.cells} --cells {output.cells}"
        " --summary {output.summary} --timeline {output.timeline} {params.repeat} 2> {log}"


rule metrics_lengths:
    input:
        lambda wildcards: layout.cell_files("responses"),
    output:
        length_counts=f"{root}/metrics/responses/length_counts.parquet",
        length_fits=f"{root}/metrics/responses/length_fits.parquet",
        length_tests=f"{root}/metrics/responses/length_tests.parquet",
        response_by_request=f"{root}/metrics/responses/response_by_request.parquet",
        response_bins=f"{root}/metrics/responses/response_bins.parquet",
    log:
        f"{root}/logs/metrics/response_lengths.log",
    benchmark:
        f"{root}/benchmarks/metrics/response_lengths.tsv"
    conda:
        "../../envs/runtime.yaml"
    resources:
        **cluster.of_light(mem_mb=3000, runtime=20),
    params:
        settings=as_json(config["characterise"]["lengths"], seed=config["seed"]),
        cells=lambda wildcards: layout.cell_options("responses"),
        code=code("metrics.lengths"),
    message:
        "Fit and relate the lengths of the responses experiment"
    shell:
        "burstbench metrics lengths --settings {params.settings:q} {params.cells}"
        " --length-counts {output.length_counts}"
        " --length-fits {output.length_fits}"
        " --length-tests {output.length_tests}"
        " --response-by-request {output.response_by_request}"
        " --response-bins {output.response_bins}"
        " 2> {log}"
