"""figures, tables: pure functions of tables; one job each."""

BESIDE_FIGURES = VALIDATION_FIGURES | SIMULATION_FIGURES | SUPPLEMENT_FIGURES
BESIDE_TABLES = VALIDATION_TABLES | SIMULATION_TABLES | SUPPLEMENT_TABLES
FIGURE_FACTS = {
    name: layout.facts(tables) for name, tables in (FIGURES | BESIDE_FIGURES).items()
}
TABLE_FACTS = {name: layout.table_facts(name) for name in TABLES | BESIDE_TABLES}


rule figure:
    input:
        unpack(lambda wildcards: layout.figure_tables(wildcards.figure)),
        style="config/figures.yaml",
        matplotlibrc="config/matplotlibrc",
    output:
        pdf=f"{root}/figures/{{figure}}.pdf",
        svg=report(
            f"{root}/figures/{{figure}}.svg",
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
        png=f"{root}/figures/{{figure}}.png",
        csv=f"{root}/figures/{{figure}}.csv",
        json=f"{root}/figures/{{figure}}.json",
    log:
        f"{root}/logs/figures/{{figure}}.log",
    benchmark:
        f"{root}/benchmarks/figures/{{figure}}.tsv"
    wildcard_constraints:
        figure="|".join(["fig[0-9]{2}", *BESIDE_FIGURES]),
    conda:
        "../../envs/runtime.yaml"
    resources:
        **cluster.of_light(mem_mb=2000, runtime=10),
    params:
        facts=lookup("{figure}", within=FIGURE_FACTS),
        tables=lambda wildcards: options(
            "--table", layout.figure_tables(wildcards.figure)
        ),
        out=subpath(output.pdf, strip_suffix=".pdf"),
        code=code("figures.draw"),
    message:
        "Draw {wildcards.figure}"
    shell:
        "burstbench figures draw {wildcards.figure} {params.tables} --style {input.style}"
        " --matplotlibrc {input.matplotlibrc} --facts {params.facts:q} --out {params.out} 2> {log}"


rule table:
    input:
        unpack(lambda wildcards: layout.table_inputs(wildcards.table)),
    output:
        md=f"{root}/tables/{{table}}.md",
        tex=f"{root}/tables/{{table}}.tex",
        csv=report(
            f"{root}/tables/{{table}}.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{table}"},
        ),
        json=f"{root}/tables/{{table}}.json",
    log:
        f"{root}/logs/tables/{{table}}.log",
    benchmark:
        f"{root}/benchmarks/tables/{{table}}.tsv"
    wildcard_constraints:
        table="|".join(["table[0-9]", *BESIDE_TABLES]),
    conda:
        "../../envs/runtime.yaml"
    resources:
        **cluster.of_light(mem_mb=1000, runtime=10),
    params:
        facts=lookup("{table}", within=TABLE_FACTS),
        tables=lambda wildcards: layout.table_options(wildcards.table),
        out=subpath(output.md, strip_suffix=".md"),
        code=code("tables.make"),
    message:
        "Make {wildcards.table}"
    shell:
        "burstbench tables make {wildcards.table} {params.tables} --facts {params.facts:q} --out {params.out} 2> {log}"
