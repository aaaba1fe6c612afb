# Python with which .venv is made: 3.10 or newer, that of the ROS 2 installation where one is sourced.
PYTHON ?= python3
VENV := .venv
# Two distributions of ROS 2 do not mix.
KILTED := .venv-kilted

# The distribution of a sourced ROS 2 installation, or `pypi` where ROS 2 has to come from there.
ROS := $(or $(if $(ROS_DISTRO),$(shell $(PYTHON) -c "import rclpy" 2>/dev/null && echo $(ROS_DISTRO))),pypi)
FROM_PYPI := $(filter pypi,$(ROS))

# Python compiles the few modules that are used when they are; pip would compile all of them. What is compiled has to be
# kept, then, even where the image of a container says otherwise: else each process compiles it again as it starts.
unexport PYTHONDONTWRITEBYTECODE
PIP = python -m pip install --quiet --disable-pip-version-check --no-compile
PIP_INSTALL = $(REFUSE_OTHERS)$(VENV)/bin/$(PIP) -c $(VENV)/constraints.txt

# Where the seg_node of a linked environment lies, unless that is here: installing this one would take it away from there.
OWNER = $(shell [ -L $(VENV) ] && $(VENV)/bin/python -I -c "import json, os; from importlib.metadata import distribution; \
	from urllib.parse import unquote; url = json.loads(distribution('seg_node').read_text('direct_url.json'))['url']; \
	path = unquote(url.removeprefix('file://')); \
	print('' if os.path.realpath(path) == os.getcwd() else path)" 2>/dev/null)
REFUSE_OTHERS = $(if $(OWNER),$(error $(VENV) is a link to $(realpath $(VENV)), the environment of $(OWNER), and is not up to \
	date here; installing would turn the seg_node of that checkout to this one. `rm $(VENV)` removes the link alone, \
	and make then makes an environment for this checkout))

# Not one for each core: a worker needs up to 3 GB, and the nodes of its tests want cores as well. launch_testing, which
# comes with a ROS 2 installation, initialises rclpy anew and wants a process in which no other test has.
WORKERS ?= $(if $(FROM_PYPI),2,0)
IN_PARALLEL = -n $(WORKERS) --dist worksteal

# Each folder of pages has its own record of what it was made of: those of `make docs` hold what the notebooks printed.
SITE = $(VENV)/bin/python -m sphinx --quiet --fail-on-warning --keep-going --jobs auto --conf-dir docs/site

# LOCKED=1 installs the versions of requirements/ and nothing else. A ROS 2 installation brings versions of its own.
LOCKED_INSTALL = $(PIP_INSTALL) --require-hashes --no-deps -r requirements/$(1).txt && \
	$(PIP_INSTALL) --no-deps --no-build-isolation -e .
LOCK = $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-annotate \
	--no-emit-index-url --custom-compile-command "make lock" setup.py requirements/build.in

ifdef LOCKED
ifndef FROM_PYPI
$(error LOCKED=1 is for ROS 2 from PyPI; $(ROS) is sourced)
endif
endif

# What a target can be told by a variable. One that no target of this call takes is refused, rather than ignored.
TAKES_demo := BAG VIDEO MODEL ENGINE OUT
TAKES_compare := BAG VIDEO MODELS ENGINE OUT
TAKES_compare-aa := BAG VIDEO MODEL ENGINE OUT
TAKES_tune := BAG VIDEO MODELS TUNE_OPTIONS OUT
TAKES_view := BAG VIDEO MODEL ENGINE VIEW_OPTIONS
TAKES_serve := SERVE_OPTIONS
TAKES_dashboard := DASHBOARD_OPTIONS
TAKES_pictures := PICTURES
TAKES_note := NOTE_OPTIONS
TAKES_docs := PORT
TAKES_bench := QUICK MODELS ENGINE OUT
TAKES_bench-gpu := MODELS BENCH_OPTIONS OUT
TAKES_cameras := CAMERAS_OPTIONS OUT
TAKES_test := WORKERS PYTEST_OPTIONS
TAKES_test-kilted := WORKERS PYTEST_OPTIONS
TAKES_coverage := WORKERS PYTEST_OPTIONS
TAKES_fuzz := FUZZ_OPTIONS OUT
TAKES_mutation := MUTANTS
TAKES_chaos := QUICK ONLY OUT
TAKES_soak := MINUTES OUT
TAKES_train-smoke := PYTEST_OPTIONS
TARGETS := $(patsubst TAKES_%,%,$(filter TAKES_%,$(.VARIABLES)))
OPTIONS := $(sort $(foreach target,$(TARGETS),$(TAKES_$(target))))
taken = $(sort $(foreach target,$(MAKECMDGOALS),$(TAKES_$(target))))
# A make below another one has all variables of that one.
ifeq ($(MAKELEVEL),0)
$(foreach name,$(filter-out $(taken),$(OPTIONS)),$(if $(filter command,$(origin $(name))),\
	$(error `make $(MAKECMDGOALS)` takes no $(name)=; it takes $(or $(taken),none of these variables))))
endif

.PHONY: help demo compare compare-aa tune view serve dashboard note docs docs-check pictures bench bench-gpu cameras test test-kilted \
	fuzz chaos soak coverage mutation audit lock dist train-smoke lint clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile

demo: $(VENV)/.runtime ## replay the shipped drive; or BAG=, VIDEO=, with MODEL=, ENGINE=, OUT= as wished
	$(VENV)/bin/python -m seg_node replay $(if $(BAG),--bag "$(BAG)") $(if $(VIDEO),--video "$(VIDEO)") \
		$(if $(MODEL),--model "$(MODEL)") $(if $(ENGINE),--engine "$(ENGINE)") --out "$(or $(OUT),demo_output)"

compare: $(VENV)/.runtime ## which backbone should drive: about five minutes for each model; or BAG=, VIDEO=, MODELS=, ENGINE=, OUT=
	$(VENV)/bin/python -m seg_node compare $(if $(BAG),--bag "$(BAG)") $(if $(VIDEO),--video "$(VIDEO)") \
		$(if $(MODELS),--models $(MODELS)) $(if $(ENGINE),--engine "$(ENGINE)") --out "$(or $(OUT),compare_output)"

compare-aa: $(VENV)/.runtime ## one model against itself: how much of a comparison is chance; MODEL=, BAG=, VIDEO=, ENGINE=, OUT=
	$(VENV)/bin/python -m seg_node compare --models $(or $(MODEL),fpn_resnet50) $(or $(MODEL),fpn_resnet50) \
		$(if $(BAG),--bag "$(BAG)") $(if $(VIDEO),--video "$(VIDEO)") $(if $(ENGINE),--engine "$(ENGINE)") \
		--out "$(or $(OUT),compare_output)"

tune: $(VENV)/.runtime ## the best that this machine can do, in six minutes, as a profile; or BAG=, VIDEO=, MODELS=, TUNE_OPTIONS="--deadline 50", OUT=
	$(VENV)/bin/python -m seg_node tune $(if $(BAG),--bag "$(BAG)") $(if $(VIDEO),--video "$(VIDEO)") \
		$(if $(MODELS),--models $(MODELS)) --out "$(or $(OUT),tune_output)" $(TUNE_OPTIONS)

view: $(VENV)/.runtime ## the same drive in a loop, live on a web page; or BAG=, VIDEO=, MODEL=, ENGINE=, VIEW_OPTIONS="--attach /segmentation"
	$(VENV)/bin/python -m seg_node view $(if $(BAG),--bag "$(BAG)") $(if $(VIDEO),--video "$(VIDEO)") $(if $(MODEL),--model "$(MODEL)") \
		$(if $(ENGINE),--engine "$(ENGINE)") $(VIEW_OPTIONS)

serve: $(VENV)/.serving ## answer HTTP requests at http://127.0.0.1:8000; SERVE_OPTIONS="--port 8080 --model PATH"
	$(VENV)/bin/python -m seg_node serve $(SERVE_OPTIONS)

dashboard: $(VENV)/.dashboard ## look at masks, training and comparisons at http://127.0.0.1:8501; DASHBOARD_OPTIONS="--api URL"
	$(VENV)/bin/python -m seg_node dashboard $(DASHBOARD_OPTIONS)

pictures: $(VENV)/.test ## take the pictures of README and docs anew (needs Chromium); PICTURES="view api drive --video FILE"
	$(VENV)/bin/python docs/make_pictures.py $(PICTURES)

note: $(VENV)/.note ## write the technical note, the slides and the README's results from docs/results; NOTE_OPTIONS=--check
	$(VENV)/bin/python docs/make_note.py $(NOTE_OPTIONS)

docs: $(VENV)/.test $(VENV)/.docs ## run the notebooks and serve all documents with them at http://127.0.0.1:8002; or PORT=
	$(SITE) -D nb_execution_mode=cache . docs_output/site
	@echo "the documents are at http://127.0.0.1:$(or $(PORT),8002); Ctrl-C ends this"
	$(VENV)/bin/python -m http.server --bind 127.0.0.1 --directory docs_output/site $(or $(PORT),8002)

docs-check: $(VENV)/.docs ## make the documents' web site in docs_output/check; a warning, such as of a dead link, is an error
	$(SITE) . docs_output/check

bench: $(VENV)/.test ## measure against a naive node and the limits of the machine; or QUICK=1, MODELS=, ENGINE=, OUT=
	$(VENV)/bin/python benchmarks/bench.py $(if $(QUICK),--quick) $(if $(MODELS),--models $(MODELS)) \
		$(if $(ENGINE),--engine "$(ENGINE)") --out "$(or $(OUT),bench_output)"

bench-gpu: $(VENV)/.test ## inference on a GPU and how near it comes to its limits; BENCH_OPTIONS="--engine torch"
	$(VENV)/bin/python benchmarks/gpu.py $(if $(MODELS),--models $(MODELS)) $(BENCH_OPTIONS) \
		--out "$(or $(OUT),bench_output)"

cameras: $(VENV)/.test ## several cameras in one process against a process each; CAMERAS_OPTIONS="--counts 4", OUT=
	$(VENV)/bin/python benchmarks/cameras.py $(CAMERAS_OPTIONS) --out "$(or $(OUT),bench_output)/cameras.json"

test: $(VENV)/.test ## run the tests, two at a time; WORKERS=0: one at a time; PYTEST_OPTIONS= goes to pytest
	$(VENV)/bin/python -m pytest --timeout 900 $(IN_PARALLEL) $(PYTEST_OPTIONS) test

test-kilted: $(KILTED)/.test ## run the tests that ROS 2 has an influence on with Kilted from PyPI; PYTEST_OPTIONS= too
	$(KILTED)/bin/python -m pytest --timeout 900 --ros $(IN_PARALLEL) $(PYTEST_OPTIONS) test

fuzz: $(VENV)/.test ## feed 100000 damaged inputs to every way in; FUZZ_OPTIONS="--surface bundle --inputs 1000 --seed 2", OUT=
	$(VENV)/bin/python fuzz/fuzz.py $(FUZZ_OPTIONS) --out "$(or $(OUT),fuzz_output)"

coverage: $(VENV)/.test ## run the tests and say which branches of seg_node they take, in node processes too; PYTEST_OPTIONS=
	$(VENV)/bin/python -m coverage erase
	$(VENV)/bin/python -m coverage run -m pytest --timeout 1800 $(IN_PARALLEL) $(PYTEST_OPTIONS) test; status=$$?; \
		$(VENV)/bin/python -m coverage combine --quiet && $(VENV)/bin/python -m coverage report && exit $$status

mutation: $(VENV)/.mutation ## break slot, messages, images and bundles on purpose, and see which breaks the tests miss; MUTANTS=
	$(VENV)/bin/python -m mutmut run $(MUTANTS)
	$(VENV)/bin/python reliability/mutation.py

audit: $(VENV)/.audit ## look the locked packages up among known vulnerabilities (needs the network)
	$(VENV)/bin/python -m pip_audit --strict --require-hashes --disable-pip -r requirements/demo.txt
	$(VENV)/bin/python -m pip_audit --strict --require-hashes --disable-pip -r requirements/test.txt

lock: $(VENV)/.lock ## pin what `make LOCKED=1 demo` and `make LOCKED=1 test` install, with hashes
	$(LOCK) --extra ros -o requirements/demo.txt
	$(LOCK) --extra ros --extra training --extra serving --extra dashboard --extra note --extra test -o requirements/test.txt

# The wheel is built of the sdist, so that each holds what the other needs; files in the wheel have the time of the commit.
dist: $(VENV)/.dist ## build and check wheel and sdist, with their hashes and a bill of materials, in dist/
	rm -rf dist
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct 2>/dev/null || date +%s) $(VENV)/bin/python -m build --outdir dist .
	$(VENV)/bin/twine check --strict dist/*
	$(VENV)/bin/cyclonedx-py requirements --output-reproducible --of JSON -o dist/seg_node.cdx.json requirements/demo.txt
	$(VENV)/bin/python deploy/inspect_dist.py dist

chaos: $(VENV)/.test ## knock the node about and print what it did; or ONLY="NAME ...", QUICK=1, OUT=
	$(VENV)/bin/python reliability/chaos.py $(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY)) \
		--out "$(or $(OUT),chaos_output)"

soak: $(VENV)/.test ## 30 minutes at 30 Hz under faults, and what grows; or MINUTES=, OUT=
	$(VENV)/bin/python reliability/soak.py --minutes $(or $(MINUTES),30) --out "$(or $(OUT),soak_output)"

train-smoke: $(VENV)/.test ## train both backbones for a few steps and run them in the node; PYTEST_OPTIONS= too
	$(VENV)/bin/python -m pytest --timeout 900 $(PYTEST_OPTIONS) test/training/test_train_smoke.py

lint: $(VENV)/.lint ## check style, format, and which package imports which
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports

clean: ## remove what make, pip, colcon, demo and compare left behind, .venv included
	rm -rf $(VENV) $(KILTED) build dist install log *.egg-info demo_output compare_output tune_output bench_output chaos_output soak_output \
		fuzz_output docs_output mutants .coverage* .hypothesis .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What the environment was made for; for anything else it is made anew.
$(VENV)/.$(ROS):
	$(REFUSE_OTHERS)$(PYTHON) -m venv --clear $(if $(FROM_PYPI),,--system-site-packages) $(VENV)
	@touch $(VENV)/constraints.txt
ifndef FROM_PYPI
	@# The messages of a ROS 2 installation work only with the NumPy that they were compiled for.
	$(PYTHON) -c "import numpy; print(f'numpy=={numpy.__version__}')" >$(VENV)/constraints.txt
endif
	@touch $@

$(VENV)/.runtime: $(VENV)/.$(ROS) setup.py
	@echo "installing what the node needs$(if $(FROM_PYPI), and ROS 2 from PyPI); about a minute"
	$(if $(LOCKED),$(call LOCKED_INSTALL,demo),$(PIP_INSTALL) -e $(if $(FROM_PYPI),".[ros]",.))
	@touch $@

$(VENV)/.serving: $(VENV)/.runtime
	$(PIP_INSTALL) -e ".[serving]"
	@touch $@

$(VENV)/.dashboard: $(VENV)/.runtime
	$(PIP_INSTALL) -e ".[dashboard]"
	@touch $@

$(VENV)/.note: $(VENV)/.runtime
	$(PIP_INSTALL) -e ".[note]"
	@touch $@

$(VENV)/.docs: $(VENV)/.runtime
	$(PIP_INSTALL) -e ".[docs]"
	@touch $@

$(VENV)/.test: $(VENV)/.runtime
	@echo "installing what training and tests need, torch among it: several GB"
	$(if $(LOCKED),$(call LOCKED_INSTALL,test),$(PIP_INSTALL) -e ".[training,serving,dashboard,note,test]")
	@touch $(VENV)/.serving $(VENV)/.dashboard $(VENV)/.note $@

$(KILTED)/.test: setup.py
	@echo "installing ROS 2 Kilted from PyPI and what its tests need; about a minute"
	$(PYTHON) -m venv --clear $(KILTED)
	$(KILTED)/bin/$(PIP) -e ".[kilted,serving,test-ros]"
	@touch $@

$(VENV)/.mutation: $(VENV)/.test
	$(PIP_INSTALL) -e ".[mutation]"
	@touch $@

$(VENV)/.audit: $(VENV)/.runtime
	$(PIP_INSTALL) -e ".[audit]"
	@touch $@

$(VENV)/.lock: $(VENV)/.runtime
	$(PIP_INSTALL) -e ".[lock]"
	@touch $@

$(VENV)/.dist: $(VENV)/.runtime
	$(PIP_INSTALL) -e ".[dist]"
	@touch $@

$(VENV)/.lint: $(VENV)/.runtime
	$(PIP_INSTALL) -e ".[lint]"
	@touch $@
