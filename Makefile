PYTHON ?= python3
BIN = .venv/bin

.PHONY: serve test install lint page types fast full weights lock manifests image clean

serve: install
	$(BIN)/python -m app

test: lint types full

# The stamp is made anew when what is to be installed changes; otherwise there is nothing to do.
install: .venv/installed
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "minist needs Python 3.11 or newer: make PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch .venv/installed

lint: install page
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

# Format and types of the page's JavaScript (`npm run format` rewrites it). The page itself needs no node.
page:
	@if ! node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null; then \
		echo 'app/static/page: not checked, there is no node 20 or newer'; \
	elif ! test node_modules/installed -nt package.json && \
		! { npm install --silent --no-package-lock && touch node_modules/installed; }; then \
		echo 'app/static/page: not checked, npm could not install what package.json names'; \
	else npm run --silent lint; fi

types: install
	$(BIN)/mypy

fast: install
	$(BIN)/pytest -m 'not full_data and not browser and not container and not survival and not soak and not package and not clients'

# Two processes, a file in one of them: CI has 2 cores, and its slow tests mostly wait.
full: install
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

# The shipped weights: one command each, from the full data under MINIST_DATA_DIR.
weights: install
	sh models/weights/train.sh

# deploy/*requirements.txt: what the image installs, with hashes; after a change of the pinned versions.
lock: install
	$(BIN)/python -m pip install --quiet --constraint constraints.txt pip-tools
	$(BIN)/python deploy/lock.py

# deploy/kubernetes.yaml: after a change of the chart in deploy/helm.
manifests: install
	$(BIN)/python deploy/manifests.py > deploy/kubernetes.yaml.new
	mv deploy/kubernetes.yaml.new deploy/kubernetes.yaml

# The image on a base that is named by its digest.
image:
	docker pull --quiet python:3.11-slim
	docker build --build-arg BASE="$$(docker inspect --format '{{index .RepoDigests 0}}' python:3.11-slim)" --tag minist .

clean:
	rm -rf .venv node_modules .mypy_cache .pytest_cache .ruff_cache .hypothesis build *.egg-info
