"""paper: the scorecard, the PDF and the web page."""


rule parameters:
    output:
        f"{root}/parameters.json",
    log:
        f"{root}/logs/paper/parameters.log",
    localrule: True
    conda:
        "../../envs/runtime.yaml"
    params:
        config=as_json(config),
    message:
        "Write the parameters of the study"
    shell:
        "printf '%s\\n' {params.config:q} > {output} 2> {log}"


rule scorecard:
    input:
        **layout.tables(SCORECARD),
        check=layout.check(),
        claims="config/claims.yaml",
    output:
        csv=report(
            f"{root}/scorecard.csv",
            caption="../report/scorecard.rst",
            category="Scorecard",
        ),
        md=f"{root}/scorecard.md",
        json=f"{root}/scorecard.json",
    log:
        f"{root}/logs/paper/scorecard.log",
    benchmark:
        f"{root}/benchmarks/paper/scorecard.tsv"
    conda:
        "../../envs/runtime.yaml"
    resources:
        **cluster.of_light(mem_mb=2000, runtime=10),
    params:
        facts=layout.facts(),
        tables=options(
            "--table",
            layout.tables(SCORECARD) | {"check": path for path in layout.check()},
        ),
        code=code("paper.scorecard"),
    message:
        "Test the paper's claims"
    shell:
        "burstbench paper scorecard --claims {input.claims} {params.tables} --facts {params.facts:q}"
        " --out {output.csv} --markdown {output.md} --json {output.json} 2> {log}"


rule paper_pdf:
    input:
        figures=layout.exhibits("figures"),
        tables=layout.exhibits("tables"),
        scorecard=f"{root}/scorecard.csv",
        findings=f"{root}/scorecard.json",
        check=layout.check(),
        parameters=f"{root}/parameters.json",
        template="workflow/report/paper.typ",
    output:
        report(
            f"{root}/paper.pdf",
            caption="../report/paper.rst",
            category="Paper",
        ),
    log:
        f"{root}/logs/paper/pdf.log",
    benchmark:
        f"{root}/benchmarks/paper/pdf.tsv"
    conda:
        "../../envs/runtime.yaml"
    resources:
        **cluster.of_light(mem_mb=2000, runtime=10),
    params:
        facts=layout.facts(),
        figures=lambda wildcards, input: Path(input.figures[0]).parent,
        tables=lambda wildcards, input: Path(input.tables[0]).parent,
        more=layout.more_options(),
        code=code("paper.pdf"),
    message:
        "Typeset the paper"
    shell:
        "burstbench paper pdf --template {input.template} --figures {params.figures}"
        " --tables {params.tables} --scorecard {input.scorecard} --findings {input.findings}"
        " --parameters {input.parameters} --facts {params.facts:q} {params.more} --out {output} 2> {log}"


rule paper_html:
    input:
        figures=layout.exhibits("figures"),
        tables=layout.exhibits("tables"),
        scorecard=f"{root}/scorecard.csv",
        findings=f"{root}/scorecard.json",
        check=layout.check(),
        parameters=f"{root}/parameters.json",
        tables_of_runs=list(layout.tables_of_runs().values()),
        template="workflow/report/report.html.j2",
        scripts=["workflow/report/vendor/echarts.min.js", "workflow/report/charts.js"],
    output:
        f"{root}/report.html",
    log:
        f"{root}/logs/paper/html.log",
    benchmark:
        f"{root}/benchmarks/paper/html.tsv"
    conda:
        "../../envs/runtime.yaml"
    resources:
        **cluster.of_light(mem_mb=2000, runtime=10),
    params:
        facts=layout.facts(),
        figures=lambda wildcards, input: Path(input.figures[0]).parent,
        tables=lambda wildcards, input: Path(input.tables[0]).parent,
        runs=options("--table", layout.tables_of_runs()),
        more=layout.more_options(),
        code=code("paper.html"),
    message:
        "Make the web page"
    shell:
        "burstbench paper html --template {input.template} --script {input.scripts} --figures {params.figures}"
        " --tables {params.tables} --scorecard {input.scorecard} --findings {input.findings}"
        " --parameters {input.parameters} --facts {params.facts:q} --metadata .snakemake/metadata {params.runs} {params.more}"
        " --out {output} 2> {log}"


rule paper_provenance:
    input:
        layout.products(),
    output:
        f"{root}/provenance.json",
    log:
        f"{root}/logs/paper/provenance.log",
    benchmark:
        f"{root}/benchmarks/paper/provenance.tsv"
    conda:
        "../../envs/runtime.yaml"
    resources:
        **cluster.of_light(mem_mb=1000, runtime=10),
    params:
        facts=layout.facts(),
        code=code("paper.provenance"),
    message:
        "Record what every file was made from"
    shell:
        "burstbench paper provenance --product {input} --facts {params.facts:q} --out {output} 2> {log}"


rule paper_crate:
    input:
        f"{root}/provenance.json",
    output:
        f"{root}/ro-crate-metadata.json",
    log:
        f"{root}/logs/paper/crate.log",
    benchmark:
        f"{root}/benchmarks/paper/crate.tsv"
    conda:
        "../../envs/runtime.yaml"
    resources:
        **cluster.of_light(mem_mb=1000, runtime=10),
    params:
        code=code("paper.crate"),
    message:
        "Describe the study as an RO-Crate"
    shell:
        "burstbench paper crate --provenance {input} --out {output} 2> {log}"


if layout.has("sensitivity"):

    rule paper_sensitivity:
        input:
            layout.simulation_files("sensitivity"),
            claims="config/claims.yaml",
            pool_index=f"{root}/prompts/pool_index.parquet",
            replies=f"{root}/prompts/replies.parquet",
            gamma_profile=f"{root}/characterise/gamma_profile.parquet",
        output:
            f"{root}/simulation/sensitivity.parquet",
        log:
            f"{root}/logs/simulation/sensitivity.log",
        benchmark:
            f"{root}/benchmarks/simulation/sensitivity.tsv"
        # The longest job of a simulated study: begun early, it does not end alone.
        priority: 1
        conda:
            "../../envs/runtime.yaml"
        resources:
            **cluster.of_light(mem_mb=3000, runtime=30),
        params:
            settings=layout.sensitivity_settings(),
            code=code("paper.sensitivity"),
        message:
            "Test the claims under other assumptions of the simulator"
        shell:
            "burstbench paper sensitivity --settings {params.settings:q} --claims {input.claims}"
            " --pool-index {input.pool_index} --replies {input.replies} --gamma-profile {input.gamma_profile}"
            " --out {output} 2> {log}"
