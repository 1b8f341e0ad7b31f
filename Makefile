# Everything is a target; `make` alone lists them.

BIN   ?= $(CURDIR)/bin
GO    ?= go
FLAGS  = -trimpath -ldflags='-s -w'

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: setup build ## see the whole product work, on this machine, with real parts
	@$(BIN)/assay demo $(DEMO)

.PHONY: test
test: setup-test build image lint ## run every test, on real virtual machines too
	$(GO) test -race -shuffle=on -timeout 24m -p 2 ./...

.PHONY: build
build: ## build assay and the guest's agent into bin/
	@CGO_ENABLED=0 $(GO) build $(FLAGS) -o $(BIN)/ ./cmd/assay
	@# Without the commit in it: an image is made anew only when the agent changed.
	@CGO_ENABLED=0 $(GO) build $(FLAGS) -buildvcs=false -o $(BIN)/ ./cmd/assay-agent

.PHONY: soak
soak: setup-test build image ## hundreds of executions, four at a time; then again with a killer about
	$(GO) test -tags soak -run TestSoak -v -timeout 60m -count=1 ./cmd/assay

.PHONY: agents
agents: ## build the guest's agent for other architectures, too: bin/assay-agent-ARCH
	@for pair in amd64:x86_64 arm64:aarch64 ppc64le:ppc64le s390x:s390x riscv64:riscv64; do \
		CGO_ENABLED=0 GOARCH=$${pair%:*} $(GO) build $(FLAGS) -buildvcs=false -o $(BIN)/assay-agent-$${pair#*:} ./cmd/assay-agent || exit 1; \
	done

PREFIX ?= /usr/local
.PHONY: install
install: build ## install both programs below PREFIX (/usr/local)
	install -D -m 755 $(BIN)/assay $(DESTDIR)$(PREFIX)/bin/assay
	install -D -m 755 $(BIN)/assay-agent $(DESTDIR)$(PREFIX)/bin/assay-agent
	@for agent in $(BIN)/assay-agent-*; do [ ! -e $$agent ] || install -D -m 755 $$agent $(DESTDIR)$(PREFIX)/bin/; done

.PHONY: image
image: setup build ## build the guest image, once
	@$(BIN)/assay image build --if-needed

.PHONY: lint
lint: ## gofmt, vet, staticcheck
	@test -z "$$(gofmt -l .)" || { echo "not gofmt-ed:"; gofmt -l .; exit 1; }
	$(GO) vet -tags soak ./...
	$(GO) tool staticcheck ./...

FUZZTIME ?= 1m
.PHONY: fuzz
fuzz: ## fuzz every parser of hostile input, FUZZTIME (1m) each
	@scripts/fuzz.sh $(FUZZTIME)

.PHONY: bench
bench: image ## run the benchmarks, and compare forks with cold boots
	$(GO) test -run '^$$' -bench . -benchmem ./...
	$(BIN)/assay bench boot --deb hello

.PHONY: bench-intake
bench-intake: build ## measure the intake beside adnanh/webhook
	@scripts/setup.sh bench
	$(BIN)/assay bench intake

.PHONY: test-dep8
test-dep8: setup build image ## run the DEP-8 tests of ten Debian packages; DEP8_PEER=1 compares with autopkgtest
	@ASSAY=$(BIN)/assay scripts/test-dep8.sh $(DEP8)

.PHONY: setup
setup: ## install what this host lacks
	@scripts/setup.sh

.PHONY: setup-test
setup-test:
	@scripts/setup.sh test

.PHONY: clean
clean: ## remove what was built here; images stay (assay image remove)
	rm -rf $(BIN)
