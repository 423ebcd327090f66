# peftsearch: `make demo` and `make test` are all a new machine needs.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PEFTSEARCH_CACHE ?= $(HOME)/.cache/peftsearch
export PEFTSEARCH_CACHE

ifdef LIBTORCH
# The PyTorch that somebody has: its folder, version, C++11 ABI and CUDA; see docs/how-to/libtorch.md.
FOUND := $(shell python3 scripts/libtorch/find.py '$(LIBTORCH)')
ifneq ($(words $(FOUND)),4)
$(error LIBTORCH=$(LIBTORCH) cannot be used)
endif
override LIBTORCH := $(word 1,$(FOUND))
CXX11_ABI := $(word 3,$(FOUND))
CUDA ?= $(word 4,$(FOUND))
STUBS := $(PEFTSEARCH_CACHE)/libtorch-stubs
ifeq ($(filter 2.1.%,$(word 2,$(FOUND))),)
export CXX := $(CURDIR)/scripts/libtorch/c++20
COMPAT := -include $(CURDIR)/scripts/libtorch/compat.h
endif
else
CUDA ?= 0
CXX11_ABI := 0
LIBTORCH := $(PEFTSEARCH_CACHE)/libtorch-2.1.2$(if $(filter 1,$(CUDA)),-cuda/torch)
STUBS := $(LIBTORCH)/stubs
endif
export CUDA
ifeq ($(CUDA),1)
# Nothing calls libtorch_cuda.so by name: it announces its kernels when it is loaded.
CUDA_LDFLAGS := -Wl,--no-as-needed -ltorch_cuda -Wl,--as-needed
endif

# Any change of these flags compiles gotch's C++ again (2.5 minutes).
export CGO_CFLAGS   := -O2 -g
export CGO_CXXFLAGS := $(strip -O2 -g -D_GLIBCXX_USE_CXX11_ABI=$(CXX11_ABI) -I$(LIBTORCH)/include -I$(LIBTORCH)/include/torch/csrc/api/include $(COMPAT))
export CGO_LDFLAGS  := $(strip -L$(LIBTORCH)/lib -L$(STUBS) -Wl,-rpath,$(LIBTORCH)/lib $(CUDA_LDFLAGS))

.PHONY: env
env: ## print the build environment: eval "$(make -s env)"
	@echo 'export CGO_CFLAGS="$(CGO_CFLAGS)" CGO_CXXFLAGS="$(CGO_CXXFLAGS)" CGO_LDFLAGS="$(CGO_LDFLAGS)"$(if $(COMPAT), CXX="$(CXX)")'

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 28

.PHONY: prerequisites
prerequisites:
	@missing=0; \
	need() { command -v $$1 >/dev/null || { echo "Error: $$2 is missing" >&2; echo "Try:   $$3" >&2; missing=1; }; }; \
	need go "Go 1.26 or newer" "install it from your system's packages or go.dev/dl"; \
	need g++ "a C++17 compiler" "apt-get install g++ (or dnf install gcc-c++)"; \
	need python3 "Python 3.9 or newer" "apt-get install python3 python3-pip"; \
	python3 -m pip --version >/dev/null 2>&1 || { echo "Error: Python's pip is missing" >&2; echo "Try:   apt-get install python3-pip" >&2; missing=1; }; \
	exit $$((missing * 4))

.PHONY: libtorch
libtorch: prerequisites
	@test -e $(LIBTORCH)/lib/libtorch_cpu.so || python3 scripts/fetch.py libtorch >/dev/null
	@test -e $(STUBS)/libcuda.a || python3 scripts/fetch.py stubs $(STUBS)

models/%: prerequisites
	@python3 scripts/fetch.py model $* $@

.PHONY: build
build: bin/peftsearch bin/peftsearch-worker ## build both binaries into bin/

.PHONY: bin/peftsearch bin/peftsearch-worker
bin/peftsearch: prerequisites
	go build -o $@ ./cmd/peftsearch
bin/peftsearch-worker: libtorch
	@echo "building the worker (the first time compiles gotch's C++ for about 3 minutes)" >&2
	go build -o $@ ./cmd/peftsearch-worker

.PHONY: demo
demo: build models/all-MiniLM-L6-v2 ## fetch what is needed and run a real search on STS-B (1 to 6 minutes after the downloads)
	bin/peftsearch run examples/stsb.yaml --db demo.db

.PHONY: test
test: libtorch models/all-MiniLM-L6-v2 models/bert-tiny ## run every test
	go vet ./...
	go test -timeout 20m ./...
	PEFTSEARCH_TEST_POSTGRES=1 go test -count 1 -timeout 20m ./studies

FUZZTIME ?= 2m
.PHONY: test-processes
test-processes: models/bert-tiny ## run the tests of many and of killed processes at full length (30 minutes)
	PEFTSEARCH_LONG_TESTS=1 go test -count 1 -timeout 60m -run 'ManyProcesses|Killed|Namespaces|Chaos' -v ./studies

.PHONY: race
race: ## run the tests of everything that runs side by side under the race detector
	go test -race -short -timeout 30m ./evaluator ./search ./studies/...

.PHONY: fuzz
fuzz: ## search for bytes that the readers of files do not survive, FUZZTIME=2m for each reader
	@grep -rE '^func Fuzz\w+\(' --include='*_test.go' . | sed -E 's|^\./(.*)/[^/]*:func (\w+).*|\1 \2|' | sort | while read -r package name; do \
		echo "$$package $$name" >&2; \
		go test ./$$package -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x || exit 1; \
	done

AXE := $(PEFTSEARCH_CACHE)/axe-core-4.14.1/axe.min.js
$(AXE):
	@mkdir -p $(@D) && cd $(@D) && npm pack --silent axe-core@4.14.1 >/dev/null && \
	echo "e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745  axe-core-4.14.1.tgz" | sha256sum --check --quiet && \
	tar -xzf axe-core-4.14.1.tgz --touch --strip-components 1 package/axe.min.js

.PHONY: test-page
test-page: $(AXE) ## test the page in Chromium, with axe-core its accessibility too, and measure its speed
	PEFTSEARCH_AXE=$(AXE) go test -count 1 -v -bench InABrowser -benchtime 3x ./studies/web

.PHONY: pictures
pictures: build models/all-MiniLM-L6-v2 ## make the pictures of README.md and docs from a real study; goes on where it stopped (2 hours)
	bin/peftsearch run scripts/pictures/stsb.yaml --db pictures.db --plain
	bin/peftsearch confirm stsb --db pictures.db --front --seeds 3
	python3 scripts/pictures/pictures.py bin/peftsearch pictures.db stsb docs

OTHERS := $(addprefix benchmarks/.others/,transformers-5.24.0 peft-0.13.2 peft-0.17.1)
benchmarks/.others/peft%: | benchmarks/.venv
	benchmarks/.venv/bin/python -m pip install --quiet --no-deps --target $@ $(subst -,==,$(@F))
benchmarks/.others/transformers%: | benchmarks/.venv
	benchmarks/.venv/bin/python -m pip install --quiet --target $@ $(subst -,==,$(@F))

.PHONY: check-exports
check-exports: build models/all-MiniLM-L6-v2 models/bert-tiny benchmarks/.venv $(OTHERS) ## load exports in the Python libraries, in several versions, and compare logits (15 minutes)
	benchmarks/.venv/bin/python scripts/check_exports.py $(foreach v,$(OTHERS),--also "$(notdir $(v))=env PYTHONPATH=$(CURDIR)/$(v) benchmarks/.venv/bin/python")

.PHONY: check-optuna
check-optuna: bin/peftsearch models/all-MiniLM-L6-v2 benchmarks/.venv ## open an exported study in Optuna and compare the front (10 seconds)
	benchmarks/.venv/bin/python scripts/check_optuna.py bin/peftsearch models/all-MiniLM-L6-v2

.PHONY: check-worker
check-worker: models/bert-tiny benchmarks/.venv ## check that the example of a worker in Python keeps the protocol (5 minutes)
	PEFTSEARCH_PYTHON=$(CURDIR)/benchmarks/.venv/bin/python go test -v ./examples/worker-python

benchmarks/.venv: benchmarks/requirements.txt | prerequisites
	python3 -m venv $@
	$@/bin/python -m pip install --quiet --requirement $<
	@touch $@

.PHONY: bench-studies
bench-studies: bin/peftsearch models/all-MiniLM-L6-v2 ## measure the loop and the commands on studies of 10,000 and 100,000 trials (1 minute)
	go run ./benchmarks/studies -bin bin/peftsearch -out benchmarks/results/studies.json

.PHONY: bench-before
bench-before: libtorch models/all-MiniLM-L6-v2 ## compare a training step with that of the commit before methods had a table (5 minutes)
	benchmarks/before.sh build $(COMMIT)
	benchmarks/before.sh run

.PHONY: bench-step bench-trial bench-batches
bench-step: build models/all-MiniLM-L6-v2 benchmarks/.venv ## compare a training step with the Python libraries (1 hour)
	benchmarks/.venv/bin/python benchmarks/step.py
bench-trial: build models/all-MiniLM-L6-v2 benchmarks/.venv ## compare a whole trial with the Python libraries (hours)
	benchmarks/.venv/bin/python benchmarks/trial.py
bench-batches: build models/all-MiniLM-L6-v2 benchmarks/.venv ## compare scores over 8 seeds with a plain PyTorch loop; goes on where it stopped (an hour)
	benchmarks/.venv/bin/python benchmarks/batches.py

.PHONY: bin/bench-search bin/peftbench
bin/bench-search:
	go build -o $@ ./benchmarks/search
bin/peftbench:
	go build -o $@ ./benchmarks/peftbench

SEARCH := benchmarks/results/search
.PHONY: bench-search
bench-search: bin/bench-search benchmarks/.venv ## compare the samplers with Optuna and BoTorch; goes on where it stopped (a day)
	bin/bench-search run -samplers auto,tpe,nsga2,random $(SEARCH)-peftsearch.jsonl
	benchmarks/.venv/bin/python benchmarks/search/peers.py $(SEARCH)-optuna.jsonl --arms "optuna random" "optuna tpe" "optuna tpe multivariate" "optuna nsga2"
	benchmarks/.venv/bin/python benchmarks/search/peers.py $(SEARCH)-optuna.jsonl --arms "optuna gp" --seeds 8
	benchmarks/.venv/bin/python benchmarks/search/peers.py $(SEARCH)-botorch.jsonl --arms "botorch qlognehvi" --seeds 8
	benchmarks/.venv/bin/python benchmarks/search/table.py $(SEARCH) $(SEARCH)-*.jsonl

CROWDS := bin/bench-search workers -problems captions-minilm,stsb-tiny
.PHONY: bench-workers
bench-workers: bin/bench-search ## play searches by up to 1,000 workers on recorded tasks; goes on where it stopped (10 minutes)
	$(CROWDS) -samplers tpe -seeds 8 -evaluations 1000 benchmarks/results/workers.jsonl
	$(CROWDS) -samplers gp -seeds 8 -evaluations 1000 -workers 1000 benchmarks/results/workers.jsonl
	$(CROWDS) -samplers gp -seeds 8 -evaluations 100 -workers 1,8,32 benchmarks/results/workers.jsonl
	$(CROWDS) -samplers gp -seeds 8 -evaluations 120 -workers 32 -seconds 10 benchmarks/results/workers.jsonl
	$(CROWDS) -samplers gp -seeds 8 -evaluations 120 -workers 32 -seconds 10 -ahead 32 benchmarks/results/workers.jsonl

PEFTBENCH := stsb-tiny titles-tiny captions-minilm
.PHONY: peftbench
peftbench: build bin/peftbench models/all-MiniLM-L6-v2 models/bert-tiny ## extend the recorded trials to PLANS=250 plans (an hour)
	bin/peftbench record --plans $(or $(PLANS),250) $(PEFTBENCH:%=benchmarks/peftbench/%.yaml)
	bin/peftbench retrain $(PEFTBENCH:%=benchmarks/peftbench/%.yaml)

.PHONY: bench-pruning
bench-pruning: build bin/bench-search bin/peftbench models/bert-tiny ## measure what pruning saves, on recorded curves and in searches; goes on where it stopped (an hour)
	bin/peftbench pruning $(PEFTBENCH:%=benchmarks/peftbench/%.jsonl.gz)
	bin/bench-search pruning -problems stsb-tiny,titles-tiny,captions-minilm -samplers gp,tpe,nsga2,random -seeds 10 -evaluations 50 benchmarks/results/pruning-search.jsonl
	python3 benchmarks/peftbench/live.py benchmarks/results/pruning-live.jsonl
