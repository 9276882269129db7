"""serve: an engine runs a plan. Requests, engine steps and the run's record come out, whatever the engine."""

# A measured run takes the whole machine: two servers on one GPU, or a server and a plot on one core, would measure each
# other. On a cluster the profile sets the CPUs.
ALONE = workflow.cores or 16
EMULATED = config["engine"] == "vllm-emulated"
MEASURED = config["engine"] == "vllm" and config["engines"]["vllm"]["device"] == "gpu"
ON_ONE_MACHINE = {
    "gpu": 1 if MEASURED else 0,
    "mem_mb": 64000 if MEASURED else 4000,
    "runtime": 360,
}

if "probe" in config["plan"]:

    probe_settings = layout.probe_settings()

    # A rule a GPU, so that a profile can send each to its own partition.
    for gpu in config["gpus"]:

        rule:
            name:
                f"serve_probe_{gpu}"
            input:
                layout.simulator_files(),
                pool=f"{root}/prompts/pool.arrow",
                pool_index=f"{root}/prompts/pool_index.parquet",
                replies=f"{root}/prompts/replies.parquet",
                tokenizer=layout.templated,
            output:
                f"{root}/probe/{{pair}}.json",
            log:
                main=f"{root}/logs/probe/{{pair}}.log",
                server=f"{root}/logs/probe/{{pair}}.server.log",
            benchmark:
                f"{root}/benchmarks/probe/{{pair}}.tsv"
            wildcard_constraints:
                pair=layout.pairs_of(gpu),
            conda:
                "../../envs/runtime.yaml"
            threads: 1 if config["engine"] == "simulator" else ALONE
            resources:
                **cluster.of_gpu(gpu, ON_ONE_MACHINE),
            params:
                settings=lambda wildcards: probe_settings[wildcards.pair],
                tokenizer=layout.template_options,
                code=code("serve.probe"),
            message:
                "Probe beta of {wildcards.pair}"
            shell:
                "burstbench serve probe --settings {params.settings:q} --pool {input.pool} --pool-index {input.pool_index}"
                " --replies {input.replies} {params.tokenizer} --server-log {log.server} --out {output} 2> {log.main}"


if config["engine"] == "simulator":

    settings_of_cells = layout.simulator_settings()

    rule serve_simulate:
        input:
            layout.simulator_files(),
            plan=f"{root}/plan/{{experiment}}/{{cell}}/plan.parquet",
            record=f"{root}/plan/{{experiment}}/{{cell}}/plan.json",
            replies=f"{root}/prompts/replies.parquet",
        output:
            requests=f"{root}/serve/{{experiment}}/{{cell}}/requests.parquet",
            steps=f"{root}/serve/{{experiment}}/{{cell}}/steps.parquet",
            intervals=f"{root}/serve/{{experiment}}/{{cell}}/intervals.parquet",
            run=f"{root}/serve/{{experiment}}/{{cell}}/run.json",
        log:
            f"{root}/logs/serve/{{experiment}}/{{cell}}.log",
        benchmark:
            f"{root}/benchmarks/serve/{{experiment}}/{{cell}}.tsv"
        conda:
            "../../envs/runtime.yaml"
        resources:
            **cluster.of_light(mem_mb=2000, runtime=30),
        params:
            settings=lambda wildcards: settings_of_cells[wildcards.experiment][
                wildcards.cell
            ],
            code=code("serve.simulate"),
        message:
            "Simulate {wildcards.experiment} {wildcards.cell}"
        shell:
            "burstbench serve simulate --settings {params.settings:q} --plan {input.plan} --plan-record {input.record}"
            " --replies {input.replies} --requests {output.requests} --steps {output.steps}"
            " --intervals {output.intervals} --run {output.run} 2> {log}"

elif config["engine"] == "endpoint":

    settings_of_cells = layout.endpoint_settings()

    rule serve_endpoint:
        input:
            plan=f"{root}/plan/{{experiment}}/{{cell}}/plan.parquet",
            record=f"{root}/plan/{{experiment}}/{{cell}}/plan.json",
            pool=f"{root}/prompts/pool.arrow",
            tokenizer=layout.endpoint_tokenizer(),
        output:
            requests=protected(f"{root}/serve/{{experiment}}/{{cell}}/requests.parquet"),
            steps=protected(f"{root}/serve/{{experiment}}/{{cell}}/steps.parquet"),
            run=protected(f"{root}/serve/{{experiment}}/{{cell}}/run.json"),
            client=protected(f"{root}/serve/{{experiment}}/{{cell}}/client.parquet"),
        log:
            f"{root}/logs/serve/{{experiment}}/{{cell}}.log",
        benchmark:
            f"{root}/benchmarks/serve/{{experiment}}/{{cell}}.tsv"
        conda:
            "../../envs/runtime.yaml"
        threads: ALONE
        resources:
            **cluster.of_light(mem_mb=2000, runtime=360),
        params:
            settings=lambda wildcards: settings_of_cells[wildcards.experiment][
                wildcards.cell
            ],
            tokenizer=" ".join(
                f"--tokenizer {path}" for path in layout.endpoint_tokenizer()
            ),
            code=code("serve.endpoint"),
        message:
            "Send {wildcards.experiment} {wildcards.cell} to the server"
        shell:
            "burstbench serve endpoint --settings {params.settings:q} --plan {input.plan} --plan-record {input.record}"
            " --pool {input.pool} --requests {output.requests} --steps {output.steps} --run {output.run}"
            " --client {output.client} {params.tokenizer} 2> >(tee {log} >&2)"

else:

    # A measurement on a GPU is expensive: it is protected from being written over.
    kept = protected if MEASURED else str

    settings_of_cells = layout.vllm_settings()

    # A rule a GPU here, too; all tasks of a job array ask for the same.
    for gpu in config["gpus"]:

        rule:
            name:
                f"serve_vllm_{gpu}"
            input:
                plan=f"{root}/plan/{{experiment}}/{{cell}}/plan.parquet",
                record=f"{root}/plan/{{experiment}}/{{cell}}/plan.json",
                pool=f"{root}/prompts/pool.arrow",
                replies=f"{root}/prompts/replies.parquet",
                tokenizer=layout.templated if layout.has_templates else [],
            output:
                requests=kept(f"{root}/serve/{{experiment}}/{{cell}}/requests.parquet"),
                steps=kept(f"{root}/serve/{{experiment}}/{{cell}}/steps.parquet"),
                engine=kept(f"{root}/serve/{{experiment}}/{{cell}}/engine.parquet"),
                run=kept(f"{root}/serve/{{experiment}}/{{cell}}/run.json"),
            log:
                main=f"{root}/logs/serve/{{experiment}}/{{cell}}.log",
                server=f"{root}/logs/serve/{{experiment}}/{{cell}}.server.log",
            benchmark:
                f"{root}/benchmarks/serve/{{experiment}}/{{cell}}.tsv"
            wildcard_constraints:
                cell=layout.cells_of(gpu),
            conda:
                "../../envs/runtime.yaml"
            threads: ALONE
            resources:
                **cluster.of_gpu(gpu, ON_ONE_MACHINE),
            params:
                settings=lambda wildcards: settings_of_cells[wildcards.experiment][
                    wildcards.cell
                ],
                tokenizer=layout.template_options if layout.has_templates else "",
                # What the server's own process imports is no import of the verb.
                code={
                    **code("serve.vllm"),
                    **code("serve.recorder"),
                    **code("serve.autotimeout"),
                    **(
                        code("serve.emulated") | code("serve.modelled")
                        if EMULATED
                        else {}
                    ),
                },
            message:
                "Serve {wildcards.experiment} {wildcards.cell} by vLLM"
            shell:
                "burstbench serve vllm --settings {params.settings:q} --plan {input.plan} --plan-record {input.record}"
                " --pool {input.pool} --replies {input.replies} {params.tokenizer} --requests {output.requests}"
                " --steps {output.steps} --engine {output.engine} --run {output.run} --server-log {log.server}"
                " 2> >(tee {log.main} >&2)"


rule serve_validate:
    input:
        kernel_times=[
            "data/validation/kernel_times.csv",
            "data/validation/kernel_times_h100.csv",
        ],
        points="data/validation/published_points.csv",
    output:
        kernels=f"{root}/validation/validation_kernels.parquet",
        published=f"{root}/validation/validation_published.parquet",
    log:
        f"{root}/logs/serve/validate.log",
    benchmark:
        f"{root}/benchmarks/serve/validate.tsv"
    conda:
        "../../envs/runtime.yaml"
    resources:
        **cluster.of_light(mem_mb=1000, runtime=10),
    params:
        settings=layout.validation_settings(),
        code=code("serve.validate"),
    message:
        "Compare the simulator's step times with measured ones"
    shell:
        "burstbench serve validate --settings {params.settings:q} --kernel-times {input.kernel_times}"
        " --points {input.points} --kernels {output.kernels} --published {output.published} 2> {log}"


if layout.has("calibration"):

    rule serve_calibrate:
        input:
            layout.simulation_files("calibration"),
            pool_index=f"{root}/prompts/pool_index.parquet",
            replies=f"{root}/prompts/replies.parquet",
        output:
            f"{root}/simulation/calibration.parquet",
        log:
            f"{root}/logs/simulation/calibrate.log",
        benchmark:
            f"{root}/benchmarks/simulation/calibrate.tsv"
        conda:
            "../../envs/runtime.yaml"
        resources:
            **cluster.of_light(mem_mb=2000, runtime=30),
        params:
            settings=layout.calibration_settings(),
            code=code("serve.calibrate"),
        message:
            "Calibrate Table III on the simulated engine"
        shell:
            "burstbench serve calibrate --settings {params.settings:q} --pool-index {input.pool_index}"
            " --replies {input.replies} --out {output} 2> {log}"
