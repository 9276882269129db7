"""characterise: one tidy table per question about the trace."""


rule characterise_counts:
    input:
        trace=layout.trace,
    output:
        daily_counts=f"{root}/characterise/daily_counts.parquet",
        hourly_counts=f"{root}/characterise/hourly_counts.parquet",
        periodicity=f"{root}/characterise/periodicity.parquet",
    log:
        f"{root}/logs/characterise/counts.log",
    benchmark:
        f"{root}/benchmarks/characterise/counts.tsv"
    conda:
        "../../envs/runtime.yaml"
    resources:
        **cluster.of_light(mem_mb=3000, runtime=20),
    params:
        settings=as_json(layout.calendar, seed=config["seed"]),
        code=code("characterise.counts"),
    message:
        "Count requests and tokens by day and hour"
    shell:
        "burstbench characterise counts --settings {params.settings:q} --trace {input.trace}"
        " --daily-counts {output.daily_counts}"
        " --hourly-counts {output.hourly_counts}"
        " --periodicity {output.periodicity}"
        " 2> {log}"


rule characterise_bursts:
    input:
        trace=layout.trace,
    output:
        doublings=f"{root}/characterise/doublings.parquet",
        burst_ratios=f"{root}/characterise/burst_ratios.parquet",
    log:
        f"{root}/logs/characterise/bursts.log",
    benchmark:
        f"{root}/benchmarks/characterise/bursts.tsv"
    conda:
        "../../envs/runtime.yaml"
    resources:
        **cluster.of_light(mem_mb=3000, runtime=20),
    params:
        settings=as_json(
            config["characterise"]["bursts"], layout.calendar, seed=config["seed"]
        ),
        code=code("characterise.bursts"),
    message:
        "Count how often the number of requests doubles"
    shell:
        "burstbench characterise bursts --settings {params.settings:q} --trace {input.trace}"
        " --doublings {output.doublings}"
        " --burst-ratios {output.burst_ratios}"
        " 2> {log}"


rule characterise_gamma:
    input:
        trace=layout.trace,
    output:
        gamma_windows=f"{root}/characterise/gamma_windows.parquet",
        gamma_profile=f"{root}/characterise/gamma_profile.parquet",
        gamma_summary=f"{root}/characterise/gamma_summary.parquet",
        gamma_counts=f"{root}/characterise/gamma_counts.parquet",
        gamma_families=f"{root}/characterise/gamma_families.parquet",
    log:
        f"{root}/logs/characterise/gamma.log",
    benchmark:
        f"{root}/benchmarks/characterise/gamma.tsv"
    conda:
        "../../envs/runtime.yaml"
    resources:
        **cluster.of_light(mem_mb=3000, runtime=20),
    params:
        settings=as_json(
            config["characterise"]["gamma"],
            layout.calendar,
            workday_hours=config["characterise"]["workday_hours"],
            seed=config["seed"],
        ),
        code=code("characterise.gamma"),
    message:
        "Fit Gamma distributions to the gaps of each window"
    shell:
        "burstbench characterise gamma --settings {params.settings:q} --trace {input.trace}"
        " --gamma-windows {output.gamma_windows}"
        " --gamma-profile {output.gamma_profile}"
        " --gamma-summary {output.gamma_summary}"
        " --gamma-counts {output.gamma_counts}"
        " --gamma-families {output.gamma_families}"
        " 2> {log}"


rule characterise_lengths:
    input:
        trace=layout.trace,
    output:
        length_counts=f"{root}/characterise/length_counts.parquet",
        length_fits=f"{root}/characterise/length_fits.parquet",
        length_tests=f"{root}/characterise/length_tests.parquet",
        response_by_request=f"{root}/characterise/response_by_request.parquet",
        response_bins=f"{root}/characterise/response_bins.parquet",
    log:
        f"{root}/logs/characterise/lengths.log",
    benchmark:
        f"{root}/benchmarks/characterise/lengths.tsv"
    conda:
        "../../envs/runtime.yaml"
    resources:
        **cluster.of_light(mem_mb=3000, runtime=20),
    params:
        settings=as_json(config["characterise"]["lengths"], seed=config["seed"]),
        code=code("characterise.lengths"),
    message:
        "Fit and relate the token lengths"
    shell:
        "burstbench characterise lengths --settings {params.settings:q} --trace {input.trace}"
        " --length-counts {output.length_counts}"
        " --length-fits {output.length_fits}"
        " --length-tests {output.length_tests}"
        " --response-by-request {output.response_by_request}"
        " --response-bins {output.response_bins}"
        " 2> {log}"


rule characterise_failures:
    input:
        trace=layout.trace,
    output:
        failures=f"{root}/characterise/failures.parquet",
        daily_failures=f"{root}/characterise/daily_failures.parquet",
        failure_loads=f"{root}/characterise/failure_loads.parquet",
    log:
        f"{root}/logs/characterise/failures.log",
    benchmark:
        f"{root}/benchmarks/characterise/failures.tsv"
    conda:
        "../../envs/runtime.yaml"
    resources:
        **cluster.of_light(mem_mb=3000, runtime=20),
    params:
        settings=as_json(layout.calendar),
        code=code("characterise.failures"),
    message:
        "Count failures by service and model"
    shell:
        "burstbench characterise failures --settings {params.settings:q} --trace {input.trace}"
        " --failures {output.failures}"
        " --daily-failures {output.daily_failures}"
        " --failure-loads {output.failure_loads}"
        " 2> {log}"


rule characterise_sessions:
    input:
        trace=layout.trace,
    output:
        sessions=f"{root}/characterise/sessions.parquet",
        speed_loads=f"{root}/characterise/speed_loads.parquet",
    log:
        f"{root}/logs/characterise/sessions.log",
    benchmark:
        f"{root}/benchmarks/characterise/sessions.tsv"
    conda:
        "../../envs/runtime.yaml"
    resources:
        **cluster.of_light(mem_mb=3000, runtime=20),
    params:
        settings=as_json(layout.calendar),
        code=code("characterise.sessions"),
    message:
        "Measure turns, think time and speed"
    shell:
        "burstbench characterise sessions --settings {params.settings:q} --trace {input.trace}"
        " --sessions {output.sessions}"
        " --speed-loads {output.speed_loads}"
        " 2> {log}"
