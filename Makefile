# Two commands do everything: `make quickstart` and `make test`.
PYTHON ?= python3
EXTRAS ?= dev
VENV := .venv
comma := ,
READY := $(VENV)/.ready-$(subst $(comma),-,$(EXTRAS))

.PHONY: quickstart test lint clean

quickstart: $(READY)
	$(VENV)/bin/spearshield run quickstart

test: $(READY)
	$(VENV)/bin/python -m pytest -n auto --dist loadfile

lint: $(READY)
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

clean:
	rm -rf $(VENV)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt -e '.[$(EXTRAS)]'
	touch $@
