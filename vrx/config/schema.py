"""The schema of `conf/`: every key of a run's configuration, as dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from omegaconf import MISSING

from vrx.config.bounds import MANY, MAX_LAYERS, MAX_SEED, number
from vrx.config.instruction_sources import InstructionsConfig
from vrx.config.job_options import (
    AskConfig,
    BenchConfig,
    CheckConfig,
    CompareConfig,
    DemoConfig,
    ExportConfig,
    PruneConfig,
    ReportConfig,
    RevertConfig,
    ScoreAnswersConfig,
    ScoreConfig,
)
from vrx.config.model_config import ModelConfig
from vrx.config.runtime_config import RuntimeConfig


@dataclass
class SelectorConfig:
    name: str = MISSING
    rule: str = MISSING  # a function of vrx.selectors
    layers: list[int] | None = number(None, 0, MAX_LAYERS)  # an explicit list wins over the selector
    depth: int | None = number(None, 1, MAX_LAYERS)  # decoder layers of the models that `layers` is for; null: all
    other_depths: str | None = None  # the selector to take for models of another depth
    offset: int | None = number(None, -MAX_LAYERS, MAX_LAYERS)
    start: str | None = None
    seed: int | None = number(None, 0, MAX_SEED)
    formula: str | None = None  # importance score that orders the layers, see vrx/models/probe.py
    scores: str | None = None  # a file of `vrx score`; null: that of the fine-tune of all layers so configured
    # share of the data that fine-tune is trained on; null: as data_fraction
    scores_from_fraction: float | None = number(None, 0.0, 1.0)
    reverse: bool | None = None  # the least important layers
    # among which layers: any | each: of every kind in proportion | a kind, such as full or linear; null: any
    kinds: str | None = None


@dataclass
class LayerCountConfig:
    k: int | None = number(None, 1, MAX_LAYERS)
    fraction: float | None = number(None, 0.0, 1.0)  # of the decoder layers, instead of k


@dataclass
class DataFractionConfig:
    fraction: float = number(1.0, 0, 1)


@dataclass
class CaptionsConfig(InstructionsConfig):
    """Pictures with captions, JSON in the layout of LLaVA's blip_laion_cc_sbu_558k, which `vrx pretrain` trains on."""

    section: ClassVar[str] = "captions"

    template: str = "plain"  # picture and caption alone, as LLaVA; or model: question and caption in model.template
    # what the projector learns: language_model: the caption, as LLaVA; word_alignment: which patches show which words
    objective: str = "language_model"


@dataclass
class WorldConfig:
    """Synthetic data made on first use, for models that bring their own world."""

    name: str = MISSING  # the package that makes it: tiny | small
    folder: str = MISSING
    num_images: int = number(MISSING, 1, 10**7)
    num_questions: int = number(MISSING, 1, 10**6)  # of each benchmark
    num_captions: int = number(0, 0, 10**7)  # pictures with a description, for the first stage of training
    seed: int = number(0, 0, MAX_SEED)
    pictures: str | None = None  # folder of the pictures that scenes are composed of
    prepare: str | None = None  # the command that makes the pictures and the parts of the model


@dataclass
class BenchmarkConfig:
    """A benchmark: where its samples are, how the questions are put, how the answers are scored."""

    family: str = MISSING  # a function of vrx.evaluation.families: short_answer, multiple_choice, grounding, document
    path: str | None = None  # JSON Lines in our format; with a reader, the official download or a data set of the Hub
    reader: str | None = None  # a function of vrx.evaluation.readers
    subset: str | None = None  # of the Hub's data set
    revision: str | None = None  # of the Hub's data set: a commit, tag or branch
    split: str | None = None
    cache: str = "outputs/data/benchmarks"  # folder of the samples that a reader has read
    image_folder: str | None = None
    prompt: str = "{question}"
    hint_prefix: str = ""  # before the hint of a multiple-choice question, where it has one
    max_new_tokens: int = number(32, 1, 10**5)
    output_type: str = (
        "text"  # text | letters: text and the letters' log-probabilities | loglikelihood of the reference
    )
    metric: str = MISSING  # a function of vrx.metrics.per_answer: Answer -> score
    extra_metrics: dict[str, str] = field(default_factory=dict)  # recorded in addition to the main metric, by name
    mean_per_type: bool = False  # also report arithmetic and harmonic means over question types
    normalized_mean_per_type: bool = False  # and the same with every answer of a type weighted equally (TDIUC N-MPT)
    aggregate: str = "mean"
    shuffle_images: bool = False  # set by eval.shuffle_images
    box_scale: str | None = None  # width and height of a picture in the model's boxes: a number, or resized: its pixels
    paper: str | None = None  # its column in the paper's tables


@dataclass
class LoraConfig:
    """Adapters of the tuned layers; keys have the meaning of PEFT's keys of the same name."""

    r: int = number(128, 1, 65536)
    alpha: int = number(256, 1, 10**6)
    dropout: float = number(0.05, 0, 0.999)
    target_modules: list[str] | None = None  # such as [q_proj,v_proj]; null: every Linear of a decoder layer
    use_rslora: bool | None = None  # scale by alpha / sqrt(r) instead of alpha / r
    use_dora: bool | None = None  # also train a magnitude for each row of a weight
    init: str | None = None  # of lora_A, PEFT's init_lora_weights: gaussian | true, as null: Kaiming-uniform


@dataclass
class TrainConfig:
    """Hyper-parameters; conf/recipe/paper.yaml names their sources."""

    epochs: int = number(1, 1, 10**6)
    max_steps: int | None = number(None, 1, MANY)
    global_batch_size: int = number(128, 1, 10**6)
    micro_batch_size: int = number(8, 1, 10**6)
    lr: float = number(2e-4, 0, 10**4)
    projector_lr: float = number(2e-5, 0, 10**4)  # of the projector or connector
    connector: bool = True  # also train what joins tower and decoder; instruct models may leave it as it is
    weight_decay: float = number(0.0, 0, 10**4)
    warmup_ratio: float = number(0.03, 0, 1)
    max_grad_norm: float = number(0.0, 0, MANY)  # 0: no clipping, as in the paper's runs
    group_by_modality: bool | None = None  # global batches of one modality and even micro-batches, as in LLaVA's recipe
    loss_average: str = "micro_batch"  # micro_batch: mean of the micro-batches' means | token: over the global batch
    gradient_checkpointing: bool | None = True  # null: for as few layers as fit in memory
    dtype: str = "bfloat16"
    optimizer: str | None = None  # adamw | adamw_8bit, where bitsandbytes is installed; null: adamw
    scheduler: str | None = None  # cosine | linear | constant | constant_with_warmup; null: cosine
    tf32: bool | None = None  # TF32 matrix products on GPUs in every stage of the run; null: on


@dataclass
class EngineConfig:
    """How the same numbers are computed. A switch is off where null. A switch that this machine or the ZeRO stage does
    not support is turned off with one line of output; `train.json` records which were on."""

    name: str = "deepspeed"  # deepspeed | torch
    # null: 2 where one process holds the weights, plain torch if it is the only one, else 3
    zero_stage: int | None = number(3, 0, 3)
    packed: bool | None = None  # pack a micro-batch's samples into one row, without padding
    supervised_head: bool | None = None  # compute logits and loss only at positions with labels, in chunks
    skip_vision_tower: bool | None = None  # do not run the vision tower for a micro-batch without images
    fused_lora: bool | None = None  # run a frozen Linear and its adapter as one operation
    compile: str | None = None  # compile decoder layers with torch.compile: always | auto: if the run is long enough


@dataclass
class EvalConfig:
    batch_size: int = number(16, 1, 10**6)
    limit: int | None = number(None, 1, MANY)  # only the first samples of each benchmark
    shuffle_images: bool = False  # a control: each question with another question's picture, under a name of its own


@dataclass
class WandbConfig:
    mode: str = "auto"  # auto: online where an account is configured | online | offline | disabled
    project: str = "vrx"
    entity: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    log_predictions: bool = False  # also send questions, images and answers to W&B


@dataclass
class JobConfig:
    name: str = MISSING
    run: str | None = None  # a finished run; null: the run of this configuration, under evaluate the base model


@dataclass
class SweepConfig:
    name: str | None = None
    dry_run: bool = False  # list the runs, start nothing
    fail_fast: bool = False  # stop at the first run that fails


@dataclass
class RunConfig:
    """The configuration of one run."""

    job: JobConfig = field(default_factory=JobConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    selector: SelectorConfig = field(default_factory=SelectorConfig)
    layer_count: LayerCountConfig = field(default_factory=LayerCountConfig)
    data_fraction: DataFractionConfig = field(default_factory=DataFractionConfig)
    instructions: InstructionsConfig = field(default_factory=InstructionsConfig)
    captions: CaptionsConfig = field(default_factory=CaptionsConfig)
    world: WorldConfig | None = None
    data_root: str | None = None  # folder of local data; conf/benchmark and conf/model give the paths below it
    benchmark: dict[str, BenchmarkConfig] = field(default_factory=dict)
    recipe: str = MISSING
    lora: LoraConfig = field(default_factory=LoraConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    wandb: WandbConfig = field(default_factory=WandbConfig)
    # options of one job, null for other jobs; see conf/job/
    score: ScoreConfig | None = None
    revert: RevertConfig | None = None
    prune: PruneConfig | None = None
    check: CheckConfig | None = None
    bench: BenchConfig | None = None
    report: ReportConfig | None = None
    export: ExportConfig | None = None
    ask: AskConfig | None = None
    compare: CompareConfig | None = None
    demo: DemoConfig | None = None
    image: str | None = None  # of vrx ask and vrx compare: the file of a picture; none: a question about text alone
    question: str | None = None  # of vrx ask and vrx compare
    score_answers: ScoreAnswersConfig | None = None
    sweep: SweepConfig = field(default_factory=SweepConfig)
    seed: int = number(0, 0, MAX_SEED)
