SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Sample services written in Go, each built into its own folder, where
# examples/polder.yaml starts it from.
SAMPLES := $(patsubst examples/%/main.go,%,$(wildcard examples/*/main.go))

# Packages whose tests start the real Envoy, instances or whole regions. The
# rest is pure or talks over loopback only, and is what `make check` runs.
HEAVY := /(cmd|gateway|prewarm/instance|bench/convergence|bench/chaos|bench/testbed)(/|$$)

GO ?= go
GOTEST := $(GO) tool gotestsum --format pkgname --format-hide-empty-pkg -- -race -shuffle=on -timeout 40m

# How long `make fuzz` tries each fuzz target: a time, or a count as in 10000x.
FUZZTIME ?= 30s

# How many random cases `make prove` tries of each property.
CHECKS ?= 1000000

# How long `make endurance` changes things, and how often a second.
ENDURE ?= 1h
ENDURE_RATE ?= 10

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: samples ## Build bin/polder and the sample services
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/polder ./cmd/polder

.PHONY: samples
samples:
	@$(foreach s,$(SAMPLES),CGO_ENABLED=0 $(GO) build -trimpath -o examples/$(s)/bin/$(s) ./examples/$(s);)

.PHONY: envoy
envoy: ## Get the pinned Envoy into .tools, unless one of that version is on PATH
	@tools/envoy

.PHONY: run
run: build envoy ## Build, get Envoy, and run every region of examples/polder.yaml on this machine
	./bin/polder up --config examples/polder.yaml

# The race detector links C, which Go would not say when the compiler is missing.
.PHONY: compiler
compiler:
	@command -v "$$($(GO) env CC)" >/dev/null || \
	{ echo "tests run with Go's race detector, which needs a C compiler: install gcc (Debian: apt-get install gcc libc6-dev)" >&2; exit 1; }

.PHONY: test
test: compiler lint envoy build ## Everything that CI runs: linters, all tests with the real Envoy, a short fuzz run
	$(MAKE) --no-print-directory fuzz FUZZTIME=2000x
	$(GOTEST) ./...

.PHONY: check
check: compiler lint ## Linters and the tests that start no Envoy and no instance: fast
	$(GOTEST) $$($(GO) list ./... | grep -vE '$(HEAVY)')

.PHONY: lint
lint: ## Formatting, vet and staticcheck
	@unformatted=$$(find . -name '*.go' -not -path './.*' -exec gofmt -l {} +); \
	if [[ -n $$unformatted ]]; then printf 'not formatted, run gofmt -w on:\n%s\n' "$$unformatted" >&2; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

.PHONY: golden
golden: ## Rewrite the golden files: read the diff before you commit it
	@for folder in $$(grep -rlE --include='*_test.go' 'flag\.Bool\("update"' . | xargs -r -n1 dirname | sort -u); do \
		$(GO) test "$$folder" -update; done

.PHONY: fuzz
fuzz: ## Try each fuzz target for FUZZTIME (30s, or a count as in 10000x)
	@tools/fuzz $(FUZZTIME)

.PHONY: test-envoy
test-envoy: compiler envoy samples ## Only the tests that start the real Envoy, instances or whole regions
	$(GOTEST) $$($(GO) list ./... | grep -E '$(HEAVY)')

.PHONY: bench
bench: envoy ## Go benchmarks of every package
	$(GO) test -run '^$$' -bench . -benchmem ./...

.PHONY: bench-cold
bench-cold: build envoy ## Cold starts through Polder beside bare ones, with plot: bin/cold.html
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/sleeper ./bench/cold/sleeper
	./bin/polder bench cold --html bin/cold.html

# The trace that `make bench-live` replays, and its weights; a synthetic one without.
TRACE ?=
WEIGHTS ?=

.PHONY: bench-live
bench-live: build envoy ## TRACE replayed over real regions beside the simulator, with plot: bin/live.html, bin/live.json
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/sleeper ./bench/cold/sleeper
	./bin/polder bench live --html bin/live.html --output json $(if $(WEIGHTS),--weights $(WEIGHTS)) $(TRACE) > bin/live.json

.PHONY: bench-keys
bench-keys: envoy ## What a new connection costs with keys on demand, resident, and with a resumed session
	$(GO) test ./gateway -run '^$$' -bench BenchmarkKeys -benchtime 1000x -count 3

.PHONY: prove
prove: ## The properties of the law and its proof on a million random topologies and policies (CHECKS): hours
	$(GO) test ./regions/law -rapid.checks=$(CHECKS) -timeout 0
	$(GO) test ./xds/proof -run 'Agree|Mutations|Anywhere|Changes' -rapid.checks=$(CHECKS) -timeout 0

.PHONY: bench-regions
bench-regions: build envoy ## Regions lost, drained and at rest, and memberships of 3 to 200 peers: bin/regions.html (root, minutes)
	$(GO) test ./regions/gossip -run '^$$' -bench Convergence -benchtime 1x -timeout 30m | tee bin/gossip.txt
	./bin/polder bench regions --gossip bin/gossip.txt --html bin/regions.html

# How many seeds `make chaos` plays, from which on, with how many faults each, and in
# how many campaigns side by side.
SEEDS ?= 10
SEED ?= 1
FAULTS ?= 6
BESIDE ?= 1

.PHONY: chaos
chaos: build envoy ## Fault campaign: SEEDS seeds from SEED on, FAULTS faults each, half a minute a seed; BESIDE campaigns share them (root)
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/chaos ./bench/chaos
	./bin/chaos --seeds $(SEEDS) --seed $(SEED) --faults $(FAULTS) --beside $(BESIDE)

.PHONY: endurance
endurance: compiler envoy ## Change a real Envoy ENDURE_RATE times a second for ENDURE: nothing may grow. Swap backends 1,000 times under load
	$(GO) test ./gateway -count 1 -v -timeout 0 -run 'Endurance' -args -endure $(ENDURE) -endure-rate $(ENDURE_RATE)
	$(GO) test ./gateway -count 1 -v -timeout 0 -run 'Swaps' -args -swaps 1000

.PHONY: bench-xds
bench-xds: build envoy ## From a change to its effect against the number of services, with plot: bin/xds.html, bin/xds.json
	$(GO) test ./gateway ./xds/proof -run '^$$' -bench 'ModelChange|Service|Book|Everything' -benchmem
	./bin/polder bench xds --html bin/xds.html --svg bin/xds.svg --output json > bin/xds.json

# The folder of the suite that bench/conformance runs, built as it says.
HARNESS ?= xds-test-harness

.PHONY: conformance
conformance: ## Hold xds/server to the CNCF's xds-test-harness, built in HARNESS
	$(GO) run ./bench/conformance --harness $(HARNESS)

.PHONY: canary
canary: compiler envoy samples ## Three regions in network namespaces, every frame between them captured (needs root)
	POLDER_EXPECT_ROOT=1 $(GO) test ./cmd/polder -run CanaryOnTheWire -count 1 -v

.PHONY: clean
clean: ## Remove what was built or fetched; state under .polder stays
	rm -rf bin .tools examples/*/bin
