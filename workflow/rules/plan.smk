"""plan: every request of every cell, before anything runs."""

plan_settings = layout.plan_settings()


rule plan_make:
    input:
        unpack(layout.plan_inputs),
        pool_index=f"{root}/prompts/pool_index.parquet",
    output:
        plan=f"{root}/plan/{{experiment}}/{{cell}}/plan.parquet",
        record=f"{root}/plan/{{experiment}}/{{cell}}/plan.json",
    log:
        f"{root}/logs/plan/{{experiment}}/{{cell}}.log",
    benchmark:
        f"{root}/benchmarks/plan/{{experiment}}/{{cell}}.tsv"
    conda:
        "../../envs/runtime.yaml"
    resources:
        **cluster.of_light(mem_mb=1000, runtime=10),
    params:
        # Not by lookup(), which walks through all cells for each of them.
        settings=lambda wildcards: plan_settings[wildcards.experiment][wildcards.cell],
        tables=lambda wildcards: layout.plan_options(wildcards),
        code=code("plan.make"),
    message:
        "Plan {wildcards.experiment} {wildcards.cell}"
    shell:
        "burstbench plan make --settings {params.settings:q} --pool-index {input.pool_index} {params.tables}"
        " --plan {output.plan} --record {output.record} 2> {log}"
