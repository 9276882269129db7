"""serve: an engine runs a plan. Requests, engine steps and the run's record come out, whatever the engine."""


rule serve_simulate:
    input:
        plan=f"{root}/plan/{{experiment}}/{{cell}}/plan.parquet",
        record=f"{root}/plan/{{experiment}}/{{cell}}/plan.json",
        replies=f"{root}/prompts/replies.parquet",
    output:
        requests=f"{root}/serve/{{experiment}}/{{cell}}/requests.parquet",
        steps=f"{root}/serve/{{experiment}}/{{cell}}/steps.parquet",
        run=f"{root}/serve/{{experiment}}/{{cell}}/run.json",
    log:
        f"{root}/logs/serve/{{experiment}}/{{cell}}.log",
    benchmark:
        f"{root}/benchmarks/serve/{{experiment}}/{{cell}}.tsv"
    conda:
        "../../envs/runtime.yaml"
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        settings=lookup("{experiment}/{cell}", within=layout.simulator_settings()),
        code=code("serve.simulate"),
    message:
        "Simulate {wildcards.experiment} {wildcards.cell}"
    shell:
        "burstbench serve simulate --settings {params.settings:q} --plan {input.plan} --plan-record {input.record}"
        " --replies {input.replies} --requests {output.requests} --steps {output.steps} --run {output.run} 2> {log}"
