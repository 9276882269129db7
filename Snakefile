"""BurstBench: from a raw trace of LLM requests to the artifacts of the BurstGPT paper."""

import gc
import os
import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.0")

sys.path.insert(0, str(Path(workflow.basedir) / "workflow"))

from burstbench import cluster
from burstbench.config import check, in_order
from burstbench.errors import UserError
from burstbench.fingerprint import code
from burstbench.layout import (
    FIGURES,
    SCORECARD,
    SIMULATION_FIGURES,
    SIMULATION_TABLES,
    SUPPLEMENT_FIGURES,
    SUPPLEMENT_TABLES,
    TABLES,
    VALIDATION_FIGURES,
    VALIDATION_TABLES,
    Layout,
    as_json,
    options,
)
from burstbench.session import (
    clear_stale,
    leave_outputs_to_the_submitter,
    use_own_commands,
)


configfile: "config/study.yaml"


try:
    check(config, in_order(workflow.configfiles))
except UserError as error:
    raise WorkflowError(str(error)) from None

# Jobs live to the end. To look through them for garbage after each 700 objects, as Python does, takes a sixth of the
# time in which a large study is planned.
gc.set_threshold(100_000, 50, 100)
use_own_commands()
if "SLURM_JOB_ID" in os.environ or workflow.deployment_settings.deployment_method:
    cluster.set_prefix(shell)
if os.environ.get(cluster.IMAGE):
    workflow.global_container(os.environ[cluster.IMAGE])
if workflow.is_main_process:
    clear_stale(Path(".snakemake"))
elif "SLURM_JOB_ID" in os.environ:
    leave_outputs_to_the_submitter()
layout = Layout(config)
root = layout.root


wildcard_constraints:
    experiment="[a-z0-9_]+",
    cell="[A-Za-z0-9._-]+_s[0-9]+",


report: "workflow/report/workflow.rst"


onstart:
    cluster.cancel_leftovers()


include: "workflow/rules/sources.smk"
include: "workflow/rules/trace.smk"
include: "workflow/rules/characterise.smk"
include: "workflow/rules/prompts.smk"
include: "workflow/rules/plan.smk"
include: "workflow/rules/serve.smk"
include: "workflow/rules/metrics.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/paper.smk"


rule all:
    default_target: True
    input:
        layout.products(),
        f"{root}/provenance.json",
        f"{root}/ro-crate-metadata.json",


if os.environ.get(cluster.LIGHT) == "local":
    workflow.localrules(
        *(
            each.name
            for each in workflow.rules
            if not each.name.startswith(cluster.WITH_GPU)
        )
    )
