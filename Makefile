# ckptferry. `make help` lists what there is. Go is enough for everything but e2e and bench, which start real Flink and
# real HDFS and so need a JDK and Maven. Developer tools are installed into .tools at the versions pinned in tools/go.mod
# and below.

SHELL       := bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS   += --no-builtin-rules
.DEFAULT_GOAL := help

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
# The race detector needs a C compiler; Go says 0 here when there is none, and the tests then run without it.
RACE    := $(if $(filter 1,$(shell go env CGO_ENABLED)),-race)

# golangci-lint asks not to share a module graph with other tools, so it is pinned here and not in tools/go.mod.
GOLANGCI_LINT_VERSION := v2.15.0

TOOLS         := $(CURDIR)/.tools/bin
GOLANGCI_LINT := $(TOOLS)/golangci-lint-$(GOLANGCI_LINT_VERSION)
BUF           := $(TOOLS)/buf
GRPCURL       := $(TOOLS)/grpcurl
E2E           := GRPCURL=$(GRPCURL) CKPTFERRY_BIN=$(CURDIR)/bin/ckptferry go test -tags e2e -count=1 -p 1 -timeout 40m ./e2e/... ./fsutil/...

.PHONY: help
help:
	@echo 'make …'
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo 'and also'
	@awk -F ':.*#- ' '/^[a-z0-9-]+:.*#- / { printf "  %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: demo
demo: build ## two datacenters of agents here, fed with what a real Flink wrote: lag live, and things to kill (Go only)
	bin/ckptferry demo

.PHONY: test
test: ## unit tests (Go only)
	go test $(RACE) -timeout 25m ./...

.PHONY: e2e
e2e: jdk-and-maven build $(GRPCURL) ## real Flink jobs and real HDFS clusters, the short matrix (JDK >= 11 and Maven; under 15 minutes)
	$(E2E)

.PHONY: bench
bench: jdk-and-maven build ## measure against Flink's loader, cp, rclone and distcp (JDK >= 11 and Maven)
	go run ./e2e/bench

.PHONY: check
check: check-fmt check-vet check-lint check-rules check-proto check-mod ## gofmt, vet, linters, house rules, buf lint, generated code fresh, go.mod tidy

.PHONY: proto
proto: $(BUF) ## generate Go from proto/
	find proto -name '*.pb.go' -delete
	PATH="$(TOOLS):$$PATH" $(BUF) generate

.PHONY: build
build: #- bin/ckptferry
	go build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/ckptferry ./cmd/ckptferry

.PHONY: fuzz
fuzz: #- fuzz whatever reads what others wrote, FUZZTIME (1m) for each target
	@for p in ./flinkmeta ./fsutil ./replicator; do for f in $$(go test -list '^Fuzz' $$p | grep '^Fuzz'); do \
		echo "$$p $$f"; go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $${FUZZTIME:-1m} $$p; done; done

.PHONY: e2e-all
e2e-all: jdk-and-maven build $(GRPCURL) #- the whole e2e matrix: every Flink version, backend, restore mode and file system
	E2E_ALL=1 $(subst -timeout 40m,-timeout 4h,$(E2E))

.PHONY: clean
clean: #- remove what was built, and the tools
	rm -rf bin .tools

# First, so that a missing one is said at once.
.PHONY: jdk-and-maven
jdk-and-maven:
	@tools/require-jdk-and-maven

.PHONY: check-fmt check-vet check-lint check-rules check-proto check-mod
check-fmt:
	@out=$$(gofmt -l .); [ -z "$$out" ] || { echo "not formatted, run gofmt -w on:"; echo "$$out"; exit 1; } >&2

check-vet:
	go vet ./...
	go vet -tags e2e ./...

check-lint: $(GOLANGCI_LINT)
	$(GOLANGCI_LINT) run ./...

# What no linter knows: sizes, and that each import border in .golangci.yml really bites.
check-rules: $(GOLANGCI_LINT)
	GOLANGCI_LINT=$(GOLANGCI_LINT) go -C tools test -count=1 ./...

# What the last release speaks must still be understood. Generates into an empty directory and compares, so that it is right in a clean checkout and beside uncommitted files.
check-proto: $(BUF)
	$(BUF) lint
	@tag=$$(git describe --tags --abbrev=0 2>/dev/null) || exit 0; $(BUF) breaking --against ".git#tag=$$tag"
	@fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; \
	PATH="$(TOOLS):$$PATH" $(BUF) generate -o "$$fresh"; \
	diff -r -u -x '*.proto' proto "$$fresh/proto" || { echo 'generated code is stale, run: make proto' >&2; exit 1; }

check-mod:
	go mod tidy -diff
	go -C tools mod tidy -diff

$(BUF) $(GRPCURL): tools/go.mod tools/go.sum
	GOFLAGS= GOBIN=$(TOOLS) go -C tools install tool
	@touch $@

$(GOLANGCI_LINT):
	GOFLAGS= GOBIN=$(TOOLS) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	@mv $(TOOLS)/golangci-lint $@
