"""sources: what the registry names is fetched into data/raw/, checked, and never silently replaced."""

for name in layout.datasets:

    # One rule a data set, with its own row as a parameter: a new checksum fetches this one again, and only this one.
    # The code is no parameter: the checksum already vouches for the file.
    rule:
        name:
            f"fetch_{name}"
        output:
            data=layout.dataset(name),
            record=f"data/raw/{name}/provenance.json",
        log:
            f"data/raw/logs/{name}.log",
        retries: 2
        localrule: True
        conda:
            "../../envs/runtime.yaml"
        resources:
            **cluster.of_light(mem_mb=1000, runtime=240),
        params:
            name=name,
            row=layout.registry_row(name),
            folder=subpath(output.data, parent=True),
        message:
            f"Fetch {name}"
        shell:
            "burstbench sources fetch --registry config/datasets.csv --name {params.name} --out {params.folder}"
            " 2> >(tee {log} >&2)"
