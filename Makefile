# make demo    the whole line, offline: runs, then a board in build/demo/leaderboard.md
# make test    what every change must pass; make test-all adds the slow ones
# make lint    ruff, format, pyright
# make bench   the engine against what it replaces; writes results/bench/ and the table of README.md
# make tiny    pretrain zobench/models/tiny again and measure it: its weights and its card
# make report  leaderboard.md and results/README.md from results/ alone, and the pages of docs/

PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= dev,peft
WORKERS ?= 2
BIN := $(VENV)/bin
STAMP := $(VENV)/.zobench-installed

.PHONY: demo test test-all lint bench tiny report venv clean
.DELETE_ON_ERROR:

demo: $(STAMP)
	$(BIN)/zobench run --suite demo -j 2 -o build/demo/runs
	$(BIN)/zobench report build/demo/runs -o build/demo/leaderboard.md -o build/demo/board.html
	$(BIN)/zobench report build/demo/runs
	@echo "First- and zeroth-order optimizers on two regressions and on a small pretrained language model; lines marked ref"
	@echo "know more than an optimizer may. The board with its evidence: build/demo/leaderboard.md, and as a page to open in a"
	@echo "browser: build/demo/board.html. Next, with $(BIN) in PATH:"
	@echo "  zobench run -t toy-qa -O mezo,adam      another toy task; zobench list shows every task, optimizer and baseline"
	@echo "  zobench run -t sst2 -O mezo,adam -m facebook/opt-125m --budget small      a real one (from the hub, a GPU helps)"
	@echo "  zobench run -t softmax_l2 -O ./mine.py  your own optimizer in one file: CONTRIBUTING.md has a complete example"

# one thread a worker: two pools of threads on the same cores would wait for each other
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

test-all: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "" -n $(WORKERS) --dist worksteal

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

bench: $(STAMP)
	$(BIN)/python -m pytest bench -s
	$(BIN)/python bench/table.py

tiny: $(STAMP)
	$(BIN)/python scripts/pretrain_tiny.py
	$(BIN)/python scripts/measure_tiny.py

report: $(STAMP)
	$(BIN)/python -c "from zobench.record import schema_markdown; print(schema_markdown(), end='')" > results/README.md
	$(BIN)/python scripts/document_regressions.py
	$(BIN)/python scripts/document_optimizers.py
	$(BIN)/python scripts/document_tasks.py
	$(BIN)/zobench report results -o leaderboard.md

venv: $(STAMP)

# constraints.txt pins what was tested. torch==2.13.0 there is also met by a +cpu build, where pip is offered one.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'zobench needs Python 3.11 or newer: make PYTHON=python3.11')"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

clean:
	rm -rf build dist
