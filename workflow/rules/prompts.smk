"""prompts: dialogues as token ids, indexed by their length."""


rule prompts_pool:
    input:
        dialogues=layout.dataset(config["prompts"]["dataset"]),
        tokenizer=layout.dataset(config["prompts"]["tokenizer"]),
    output:
        pool=f"{root}/prompts/pool.arrow",
        index=f"{root}/prompts/pool_index.parquet",
        replies=f"{root}/prompts/replies.parquet",
        record=f"{root}/prompts/pool.json",
    log:
        f"{root}/logs/prompts/pool.log",
    benchmark:
        f"{root}/benchmarks/prompts/pool.tsv"
    conda:
        "../../envs/runtime.yaml"
    threads: 2
    resources:
        **cluster.of_light(mem_mb=3000, runtime=60),
    params:
        settings=as_json(layout.pool_settings),
        code=code("prompts.pool"),
    message:
        "Tokenise the dialogues of {input.dialogues} into the prompt pool"
    shell:
        "burstbench prompts pool --settings {params.settings:q} --dialogues {input.dialogues}"
        " --tokenizer {input.tokenizer} --threads {threads} --pool {output.pool} --index {output.index}"
        " --replies {output.replies} --record {output.record} 2> >(tee {log} >&2)"
