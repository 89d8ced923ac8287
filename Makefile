# Everything is built into .bin (tools) and .towpath (programs and what they write); both are ignored by git.

GOFLAGS     += -trimpath
export GOFLAGS
PLUGINS     := file http kafka s3 synthetic
# Plugins of configs/mail.hcl, in a directory of their own: they do nothing without a configuration, and onefile has a type of file's.
MAIL        := mail onefile
BIN         := .towpath/bin
# The sample configurations trust a directory that nobody else can write to, nor any folder above it. Where the checkout is in a folder
# that a group can write to, the plugins built here are trusted as they are.
OPEN_FOLDER := $(shell d="$(CURDIR)"; while [ "$$d" != / ]; do find "$$d" -maxdepth 0 -perm /022 ! -perm -1000; d=$$(dirname "$$d"); done)
ifneq ($(OPEN_FOLDER),)
export TOWPATH_TRUST := off
endif
KAFKA       := 4.3.1
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
VERSITYGW   := github.com/versity/versitygw/cmd/versitygw@v1.8.0

.PHONY: help build demo run test check format vet static portable servers nginx unit race e2e kafka python torture fuzz bench proto clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / {printf "  %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build the host and the plugins
	@mkdir -p $(BIN) .towpath/plugins && chmod go-w .towpath .towpath/plugins
	CGO_ENABLED=0 go build -o $(BIN)/towpath ./host/cmd/towpath
	@$(call build_plugins,$(PLUGINS),.towpath/plugins)
	@mkdir -p .towpath/mail/plugins .towpath/mail/files && chmod go-w .towpath/mail .towpath/mail/plugins
	@$(call build_plugins,$(MAIL),.towpath/mail/plugins)

# Of these plugins, into this directory, where hosts may run them: a file is replaced when it is whole.
define build_plugins
for p in $(1); do \
  echo "CGO_ENABLED=0 go build -o $(2)/towpath-plugin-$$p ./plugins/$$p"; \
  CGO_ENABLED=0 go build -o $(2)/towpath-plugin-$$p.new ./plugins/$$p && \
  mv -f $(2)/towpath-plugin-$$p.new $(2)/towpath-plugin-$$p || exit 1; \
done
endef

demo: build ## two hosts, real transfers: push, pull, suspend and resume, terminate
	CGO_ENABLED=0 go build -o $(BIN)/demo ./e2e/demo
	$(BIN)/demo

run: build ## one host with configs/quickstart.hcl
	@mkdir -p .towpath/quickstart/files/outbox
	$(BIN)/towpath serve -config configs/quickstart.hcl

test: check unit e2e kafka python ## everything that has to pass

check: format vet static portable ## formatting, vet, static analysis

format:
	@out=$$(gofmt -l host plugins sdk proto e2e); if [ -n "$$out" ]; then echo "not formatted (gofmt -w):"; echo "$$out"; exit 1; fi

vet:
	go vet ./...

portable: ## that it builds on macOS, too
	GOOS=darwin CGO_ENABLED=0 go build -o /dev/null ./host/cmd/towpath $(PLUGINS:%=./plugins/%) $(MAIL:%=./plugins/%)

static: .bin/staticcheck
	.bin/staticcheck ./...

.bin/staticcheck: Makefile
	GOBIN=$(CURDIR)/.bin go install $(STATICCHECK)

servers: .bin/versitygw ## the programs that tests talk to: an S3 store

.bin/versitygw: Makefile
	GOBIN=$(CURDIR)/.bin go install $(VERSITYGW)

nginx: ## install nginx, which `make bench` compares pulls with
	@if command -v nginx >/dev/null || test -x /usr/sbin/nginx; then exit 0; fi; \
	if command -v apt-get >/dev/null && test "$$(id -u)" = 0; then apt-get install -y nginx-light; \
	else echo "make nginx: install nginx with this system's package manager, as root: with Debian's, apt-get install nginx-light"; exit 1; fi

unit: servers ## unit tests, contract suites and fuzz seeds under the race detector
	CGO_ENABLED=1 go test -race -timeout 15m $$(go list ./... | grep -v /e2e$$)
	CGO_ENABLED=0 go test -timeout 15m -run '^(TestShipped|TestWritten)' ./host/verify ./host/scaffold

e2e: servers ## whole-program stories with the built binaries
	go test -timeout 20m ./e2e

SEED ?= 1
RUNS ?= 3000
torture: servers ## kill, freeze, cut, fill what RUNS flows need while they run: files, HTTP, S3, Kafka; from seed SEED on
	TOWPATH_SWEEP_SEED=$(SEED) TOWPATH_SWEEP_RUNS=$(RUNS) go test -count 1 -timeout 0 -v -run '^TestKillSweep$$' ./e2e

kafka: ## the plugin kafka against a broker of Apache Kafka; where Java 17 and Maven are, elsewhere it says so
	@if ! command -v java >/dev/null || ! command -v mvn >/dev/null || ! java --version 2>&1 | awk '{split($$2, v, "."); exit v[1] < 17} {exit}'; then \
	  echo "make kafka: there is no Java 17 with Maven here: the plugin kafka was tested against a fake broker only"; exit 0; fi; \
	set -e; jars=.towpath/kafka-$(KAFKA); \
	if ! [ -d $$jars ]; then \
	  echo "mvn dependency:copy-dependencies: Apache Kafka $(KAFKA)"; \
	  mvn -q -B -f plugins/kafka/testdata/broker/pom.xml -Dkafka.version=$(KAFKA) dependency:copy-dependencies \
	    -DoutputDirectory=$(CURDIR)/$$jars.new || \
	    { echo "make kafka: Apache Kafka cannot be fetched: the plugin kafka was tested against a fake broker only"; exit 0; }; \
	  mv $$jars.new $$jars; fi; \
	TOWPATH_KAFKA_JARS=$(CURDIR)/$$jars go test -tags broker -timeout 3m -count 1 ./plugins/kafka

PYTHON ?= python3
python: ## the plugin in Python of e2e/python: the suites and whole-program stories; EDC's messages, read by another processor; where Python 3.11 with venv and pip is, elsewhere it says so
	@if ! $(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	  echo "make python: there is no Python 3.11 with venv and pip here: the plugin in Python was NOT built and NOT tested, nor EDC's messages read by another processor"; exit 0; fi; \
	set -e; libraries=$$(cksum < e2e/python/requirements.txt | cut -d ' ' -f 1); venv=.bin/python-$$libraries; \
	if ! [ -e $$venv/complete ]; then \
	  echo "pip install -r e2e/python/requirements.txt"; rm -rf $$venv; \
	  { $(PYTHON) -m venv $$venv && $$venv/bin/pip install --quiet --disable-pip-version-check --only-binary :all: -r e2e/python/requirements.txt; } || \
	    { echo "make python: gRPC and PyLD for Python cannot be fetched: the plugin in Python was NOT built and NOT tested, nor EDC's messages read by another processor"; exit 0; }; \
	  touch $$venv/complete; fi; \
	$$venv/bin/python e2e/python/jsonld.py; \
	$$venv/bin/python e2e/python/build.py .towpath/python/towpath-plugin-pyfile; \
	$$venv/bin/python e2e/python/build.py --no-digests .towpath/python/towpath-plugin-pyplain; \
	go vet -tags python ./e2e ./host/pluginhost; \
	TOWPATH_PYTHON_PLUGINS=$(CURDIR)/.towpath/python go test -tags python -timeout 10m -count 1 -run '^TestPython' ./host/pluginhost ./e2e

fuzz: servers ## every fuzz test for 30 seconds
	@for p in $$(go list ./...); do \
	  for f in $$(go test -list '^Fuzz' $$p | grep ^Fuzz); do \
	    go test -run '^$$' -fuzz "^$$f$$" -fuzztime 30s -fuzzminimizetime 10x $$p || exit 1; done; done

bench: nginx ## speed as ratios, memory; needs a quiet machine
	go test -run '^$$' -bench . -benchtime 1x -timeout 30m ./host/cmd/towpath
	go test -run '^$$' -bench Signals -benchtime 20000x -count 3 ./host/store
	go test -run '^$$' -bench ColdStart -benchtime 30x -count 3 ./host/pluginhost

proto: ## generate the Go code of the plugin protocol
	go run ./proto/generate

clean: ## remove what was built and what the programs wrote
	rm -rf .bin .towpath
