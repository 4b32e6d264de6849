# One phony line per verb or stage; what depends on what is the business of `plmicd run`, not of make.
#
#   make demo                      the whole pipeline on synthetic notes
#   make all PIPELINE=pipelines/codiesp.toml
#   make finetune ARGS="--set stages.finetune.config.epochs=3"

PIPELINE ?= pipelines/demo.toml
STORE    ?= artifacts
BENCH    := artifacts/bench
ADMISSIONS ?= 20000
ARGS     ?=
# Such as `remote`, for stores shared between machines.
FEATURES ?=
CARGO    ?= cargo
comma    := ,
# Training with several processes is tested where the headers of Gloo are.
TOGETHER := $(if $(wildcard /usr/include/gloo/config.h),$(comma)plmicd/distributed)
PYTHON   ?= python3
PLMICD   := $(or $(CARGO_TARGET_DIR),target)/release/plmicd
RUN      := $(PLMICD) run $(PIPELINE) --store $(STORE)

# The set-up links a libtorch that these name; the build itself always takes the one in .libtorch/.
USE_PYTORCH := $(LIBTORCH_USE_PYTORCH)
unexport LIBTORCH_USE_PYTORCH

.PHONY: help
help: ## Show this list.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

## Setting up

.PHONY: setup build build-data encoder icd-tables doctor
setup: ## Fetch libtorch into .libtorch/ (or link the one LIBTORCH names).
	@LIBTORCH_USE_PYTORCH=$(USE_PYTORCH) $(PYTHON) scripts/setup_libtorch.py
build: setup ## Build the plmicd program.
	@$(CARGO) build --release --locked --package plmicd --features "$(FEATURES)"
build-data: ## Build without libtorch: the data stages, the metrics and the store.
	@$(CARGO) build --release --locked --package plmicd --no-default-features
encoder: ## Fetch the pretrained encoder of pipelines/codiesp.toml.
	@$(PYTHON) scripts/setup_data.py encoder
icd-tables: ## Fetch ICD-9-CM and ICD-10 code tables.
	@$(PYTHON) scripts/setup_data.py icd-tables
doctor: build ## Tell what was found on this machine, and how to mend what is missing.
	@$(PLMICD) doctor $(PIPELINE) --store $(STORE)

## Running

STAGES := preprocess corpus vocabulary tokenize embed pretrain finetune predict import-scores threshold evaluate report sweep-report

.PHONY: demo all $(STAGES) plan status explain gc verify
demo: build ## Run the whole pipeline on synthetic notes and show the result.
	@$(PLMICD) run pipelines/demo.toml --store $(STORE) $(ARGS)
all: build ## Run every stage of PIPELINE.
	@$(RUN) $(ARGS)
preprocess: build ## Run PIPELINE up to the notes and the label space.
corpus: build ## Run PIPELINE up to its texts without codes.
vocabulary: build ## Run PIPELINE up to the tokenizer.
tokenize: build ## Run PIPELINE up to the token shards.
embed: build ## Run PIPELINE up to its word embeddings.
pretrain: build ## Run PIPELINE up to the pretrained encoder.
finetune: build ## Run PIPELINE up to the trained model.
predict: build ## Run PIPELINE up to the scores of dev and test.
import-scores: build ## Run PIPELINE up to the predictions of other programs.
threshold: build ## Run PIPELINE up to the decision threshold.
evaluate: build ## Run PIPELINE up to the metrics.
report: build ## Run PIPELINE up to the report.
sweep-report: build ## Run the sweep PIPELINE up to its table.
$(STAGES):
	@$(RUN) --until $@ $(ARGS)
plan: build ## Show what would run, and why.
	@$(PLMICD) plan $(PIPELINE) --store $(STORE) $(ARGS)
status: build ## Show the state of every stage.
	@$(PLMICD) status $(PIPELINE) --store $(STORE) $(ARGS)
explain: build ## Tell why stages would run, setting by setting.
	@$(PLMICD) explain $(PIPELINE) --store $(STORE) $(ARGS)
gc: build ## Remove artifacts that no recent run needs.
	@$(PLMICD) artifact gc --store $(STORE) $(ARGS)
verify: build ## Read every artifact again and compare its digest.
	@$(PLMICD) artifact verify --store $(STORE) $(ARGS)

## Developing

.PHONY: test test-gpu lint format bench-evaluate bench-predict bench-preprocess bench-tokenize bench-train
test: setup ## Run all tests that need no GPU.
	@$(CARGO) test --workspace --locked --no-fail-fast --features plmicd/remote$(TOGETHER)
test-gpu: setup ## Compare a GPU with the CPU: every model's loss, gradients and scores.
	@$(CARGO) test --locked --release --package plmicd-nn --test gpu -- --nocapture
lint: setup ## Check formatting and lints.
	@$(CARGO) fmt --all --check
	@$(CARGO) clippy --workspace --all-targets --locked --features plmicd/remote$(TOGETHER) -- -D warnings
	@$(CARGO) update --quiet --workspace --locked --manifest-path fuzz/Cargo.toml # Fails where its lock file is behind.
bench-evaluate: ## Time thresholds and metrics at the size of MIMIC-III's test set.
	@$(CARGO) run --release --locked --package plmicd-metrics --example full_size
bench-train: setup ## Time training steps at the paper's setting beside the straightforward way (ARGS="--notes 8").
	@$(CARGO) run --release --locked --package plmicd-nn --example bench -- train $(ARGS)
bench-predict: setup ## Time scoring at the paper's setting beside the straightforward way.
	@$(CARGO) run --release --locked --package plmicd-nn --example bench -- predict $(ARGS)
bench-preprocess: build ## Time preprocessing beside a plain loop, on ADMISSIONS synthetic admissions.
	@$(PLMICD) run pipelines/demo.toml --store $(BENCH) --until synth --set stages.synth.config.admissions=$(ADMISSIONS) \
		--set stages.synth.config.mean_words=1500 --set stages.synth.config.max_words=8000
	@$(CARGO) run --release --locked --package plmicd-preprocess --example bench_preprocess $(BENCH)/latest/demo/synth
bench-tokenize: build ## Time tokenizing beside a plain loop, on ADMISSIONS synthetic notes (default 20,000).
	@$(PLMICD) run pipelines/demo.toml --store $(BENCH) --until vocabulary --set stages.synth.config.admissions=$(ADMISSIONS) \
		--set stages.synth.config.mean_words=1500 --set stages.synth.config.max_words=8000 --set stages.vocabulary.config.size=30000
	@$(CARGO) run --release --locked --package plmicd-tokenize --example bench_tokenize $(BENCH)/latest/demo/preprocess $(BENCH)/latest/demo/vocabulary
format: ## Format the code.
	@$(CARGO) fmt --all
