# Python with which .venv is made: 3.10 or newer, that of the ROS 2 installation where one is sourced.
PYTHON ?= python3
VENV := .venv

# The distribution of a sourced ROS 2 installation, or `pypi` where ROS 2 has to come from there.
ROS := $(or $(if $(ROS_DISTRO),$(shell $(PYTHON) -c "import rclpy" 2>/dev/null && echo $(ROS_DISTRO))),pypi)
FROM_PYPI := $(filter pypi,$(ROS))

PIP_INSTALL = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c $(VENV)/constraints.txt

.PHONY: help demo compare serve bench test train-smoke lint clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile

demo: $(VENV)/.runtime ## replay the shipped drive; or BAG=, VIDEO=, with MODEL=, ENGINE=, OUT= as wished
	$(VENV)/bin/python -m seg_node replay $(if $(BAG),--bag "$(BAG)") $(if $(VIDEO),--video "$(VIDEO)") \
		$(if $(MODEL),--model "$(MODEL)") $(if $(ENGINE),--engine "$(ENGINE)") --out "$(or $(OUT),demo_output)"

compare: $(VENV)/.runtime ## which of the two backbones should drive, in eight minutes; or BAG=, VIDEO=, MODELS=, ENGINE=, OUT=
	$(VENV)/bin/python -m seg_node compare $(if $(BAG),--bag "$(BAG)") $(if $(VIDEO),--video "$(VIDEO)") \
		$(if $(MODELS),--models $(MODELS)) $(if $(ENGINE),--engine "$(ENGINE)") --out "$(or $(OUT),compare_output)"

serve: $(VENV)/.serving ## answer HTTP requests at http://127.0.0.1:8000; SERVE_OPTIONS="--port 8080 --model PATH"
	$(VENV)/bin/python -m seg_node serve $(SERVE_OPTIONS)

bench: $(VENV)/.test ## measure against a naive node and the limits of the machine; or QUICK=1, MODELS=, ENGINE=, OUT=
	$(VENV)/bin/python test/benchmarks/bench.py $(if $(QUICK),--quick) $(if $(MODELS),--models $(MODELS)) \
		$(if $(ENGINE),--engine "$(ENGINE)") --out "$(or $(OUT),bench_output)"

test: $(VENV)/.test ## run the tests; PYTEST_OPTIONS= goes to pytest
	$(VENV)/bin/python -m pytest --timeout 900 $(PYTEST_OPTIONS) test

train-smoke: $(VENV)/.test ## train both backbones for a few steps and run them in the node; PYTEST_OPTIONS= too
	$(VENV)/bin/python -m pytest --timeout 900 $(PYTEST_OPTIONS) test/test_train_smoke.py

lint: $(VENV)/.lint ## check style and format
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

clean: ## remove what make, pip, colcon, demo and compare left behind, .venv included
	rm -rf $(VENV) build install log *.egg-info demo_output compare_output bench_output .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What the environment was made for; for anything else it is made anew.
$(VENV)/.$(ROS):
	$(PYTHON) -m venv --clear $(if $(FROM_PYPI),,--system-site-packages) $(VENV)
	@touch $(VENV)/constraints.txt
ifndef FROM_PYPI
	@# The messages of a ROS 2 installation work only with the NumPy that they were compiled for.
	$(PYTHON) -c "import numpy; print(f'numpy=={numpy.__version__}')" >$(VENV)/constraints.txt
endif
	@touch $@

$(VENV)/.runtime: $(VENV)/.$(ROS) setup.py
	@echo "installing what the node needs$(if $(FROM_PYPI), and ROS 2 from PyPI); about a minute"
	$(PIP_INSTALL) -e $(if $(FROM_PYPI),".[ros]",.)
	@touch $@

$(VENV)/.serving: $(VENV)/.runtime
	$(PIP_INSTALL) -e ".[serving]"
	@touch $@

$(VENV)/.test: $(VENV)/.runtime
	@echo "installing what training and tests need, torch among it: several GB"
	$(PIP_INSTALL) -e ".[training,serving,test]"
	@touch $@

$(VENV)/.lint: $(VENV)/.runtime
	$(PIP_INSTALL) -e ".[lint]"
	@touch $@
