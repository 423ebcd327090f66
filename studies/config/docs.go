package config

// docs says what each key of the study file means, by its path: sections too. task.test_columns has the keys of
// task.columns. Template and reference are made of it.
var docs = map[string]string{
	"study": "name of the study, unique in its database",

	"model": "the pretrained model",
	"model.path": "Hugging Face directory (config.json, model.safetensors, tokenizer; relative to this file), or " +
		"the name of a model that peftsearch pull has brought",
	"model.head": "what is put on the first token: linear, or dense (dense, tanh, linear)",

	"task":        "the labelled data and how it is scored; docs/reference/data.md says what files may look like",
	"task.kind":   "classification, regression, token_classification, multiple_choice, coreference, multilabel or text",
	"task.metric": "the score; docs/reference/data.md lists those of each kind",
	"task.train":  "training rows: a .tsv, .csv or .jsonl file, relative to this file",
	"task.dev":    "rows that trials are scored on",
	"task.test":   "rows for the last word: train and confirm report them, the search never sees them",
	"task.columns": "where the fields stand: a name of the header, or \"#1\" for the first column of a file " +
		"without one",
	"task.columns.text":      "the sentence, or the first of a pair",
	"task.columns.text_pair": "the second sentence of a pair",
	"task.columns.label":     "the class, the number, the tags, the right choice, all labels, or the text to be written",
	"task.columns.labels": "columns with a yes or no each: of a coreference's candidates, or of a multilabel's " +
		"labels, which they are named after",
	"task.columns.question": "what a multiple choice adds to the text; cause and effect are COPA's questions",
	"task.columns.choices":  "columns with a choice each, or one with a list",
	"task.columns.choice_names": "list of the names by which label calls the choices, if it does not call them " +
		"by their place",
	"task.columns.spans":   "a coreference's mention and then its candidates",
	"task.columns.offsets": "where the spans begin in the text, in characters or words from 0",
	"task.test_columns":    "the same for a test file with other columns",
	"task.labels":          "classes in the order of the outputs",
	"task.dev_share":       "share of train that becomes dev when there is no file",
	"task.test_share":      "share of train that becomes test when there is no file",
	"task.split_seed":      "seed of the carving",
	"task.split":           "how rows are carved: stratified keeps every class's share, random draws all alike",
	"task.max_length":      "longest input in tokens; the longer sentence of a pair is cut first",
	"task.template": "of a text: what the model reads and then writes; {text}, {text_pair} and, at the end, {label} " +
		"stand for the row's, as in \"{text} TL;DR: {label}\"",
	"task.generation": "of a text: how it is written, with the keys of transformers' generate; dev is scored " +
		"without beams",
	"task.generation.max_new_tokens":       "longest text in tokens, its end included; longer ones are cut in training",
	"task.generation.min_new_tokens":       "tokens before the end may come",
	"task.generation.num_beams":            "beams of test and predict; 1 is greedy search",
	"task.generation.length_penalty":       "power of the length that a text's log-probability is divided by",
	"task.generation.early_stopping":       "true, false or never: when a beam search with enough finished texts ends",
	"task.generation.no_repeat_ngram_size": "sequences of so many tokens never come twice; 0 for none",

	"space": "what the search may choose; see also training",
	"space.preset": "how layers share sizes: per-layer (each its own), groups (bands share), autopeft (one size " +
		"per method and one bit per layer)",
	"space.groups":  "preset groups only: number of bands of neighbouring layers",
	"space.methods": "methods to choose from, beside those whose sizes are given: {methods}",
	"space.lora":    "LoRA",
	"space.lora.ranks": "ranks to try, 0 for none; [] leaves the method out (preset autopeft leaves it out " +
		"unless ranks are given)",
	"space.lora.scale":   "alpha divided by rank, the same at every rank",
	"space.lora.targets": "matrices to adapt: query, key, value, attention_output, ffn_in, ffn_out",
	"space.gates": "methods whose modules may have gates (UniPELT): for each of them the search chooses whether " +
		"they do",
	"space.gates_per": "method: one choice of a gate for all modules of a method; layer: one in each set of layers " +
		"that shares a size",
	"space.non_linearity": "functions of the bottleneck adapters to choose from, one for all: own (the " +
		"method's), relu, gelu, gelu_new, swish, tanh",
	"space.scale": "scales of the bottleneck adapters to choose from, one for all: own (the method's), learned, " +
		"or a number",
	"space.learning_rate": "learning rates to search",
	"space.schedule":      "learning rate schedules to search: linear, cosine, constant",
	"space.max_params":    "most trainable parameters of a plan, without the head; 0 is no bound",

	"training": "how every plan is trained",
	"training.learning_rate": "peak learning rate of AdamW, unless space.learning_rate searches it; or one for " +
		"each method and the head, as in {lora: 2e-3, head: 1e-3, default: 1e-3}; auto finds one for each method " +
		"before the search, with at most a tenth of budget.trials",
	"training.schedule":      "linear or cosine to 0, or constant",
	"training.warmup_ratio":  "share of the steps in which the rate rises",
	"training.weight_decay":  "decoupled weight decay, not on biases",
	"training.batch_size":    "examples per step",
	"training.max_grad_norm": "longer gradients are scaled down to this norm; 0 never",
	"training.prefix_mlp":    "width of an MLP that generates the prefixes in training; 0 trains them directly",
	"training.lora_plus": "LoRA+: how many times the learning rate the second matrix of low-rank updates has; 0 " +
		"is once",
	"training.prompt_init": "what a prompt begins as: random numbers, or vocabulary (random word embeddings), or " +
		"text (those of prompt_text)",
	"training.prompt_text": "text that a prompt begins as",
	"training.prompt_encoder": "mlp or lstm: what generates the prompt in training (P-tuning); left out, it is " +
		"trained directly",
	"training.prompt_width": "width of prompt_encoder; 0 is that of the model",
	"training.adapter_drop": "AdapterDrop: in every step a random number of the lowest layers, from 0 to this " +
		"one, has no modules",
	"training.dropout": "dropout inside the frozen backbone; 0 is faster",

	"budget": "how much is trained",
	"budget.trials": "trainings of the study: trials, baselines included, those that calibrate rates or " +
		"make a map, and further ones of the same plans; raise it to continue a finished study",
	"budget.hours": "hours that each worker trains; the search ends when these or budget.trials are used, and " +
		"prefers plans that promise more a second; 0 is no limit",
	"budget.epochs": "passes over the training rows in a trial; 0.5 is half of one; auto is 3, or as many more " +
		"as make 300 steps",
	"budget.train_rows": "train on a fixed random subset of so many rows; 0 is all",
	"budget.rungs":      "when a trial is scored on dev, as shares of its budget, ending in 1; the best counts",
	"budget.patience":   "stop a trial after so many rungs without a better score; 0 never",
	"budget.max_failures": "stop the search when more than this share of the trials failed (from the fifth trial " +
		"on)",
	"budget.train":          "the budget of peftsearch train, which trains one plan in full",
	"budget.train.epochs":   "most passes over all training rows",
	"budget.train.patience": "stop after so many epochs without a better dev score; 0 never",

	"search": "how plans are proposed",
	"search.sampler": "auto, gp, tpe, nsga2, random, or tpe-univariate: the best score alone, within " +
		"space.max_params",
	"search.pruner": "none, or front: stop a trial at a rung when its predicted final score can hardly enter the " +
		"front at its own size",
	"search.seed": "everything random follows from it; the same seed gives the same search with one worker",
	"search.warm_start": "auto: gp learns from the other studies of the database, and from maps, that have the " +
		"same model and training; shared: where there are none, a network with the weights of all plans is " +
		"trained first and scores plans; or none",
	"search.replicates": "share of the budget, at its end, that trains plans which could be the best again with " +
		"other seeds, at most three times each; their scores are means then; 0 trains each plan once",
	"search.initial": "trials of the cost-stratified start; 0 chooses by the size of the space",

	"evaluator": "where and how trials run",
	"evaluator.workers": "trials that run at the same time, each in a process of its own; auto measures what is " +
		"fastest here, and is one for each GPU",
	"evaluator.threads": "threads of each worker; 0 shares the cores among the workers",
	"evaluator.device":  "cpu, cuda (its workers share all GPUs that are visible) or cuda:N",
	"evaluator.precision": "of frozen weights and activations: float32, bfloat16, or auto (bfloat16 where it is " +
		"fast), which the first worker of a study decides for good",
	"evaluator.cache_memory": "GiB in each worker for what frozen layers compute and cache_disk has no room for",
	"evaluator.cache_disk": "GiB of files for what frozen layers compute, in the user's cache directory, for all " +
		"workers and studies together; 0 writes none",
	"evaluator.command": "another program that speaks the worker protocol, with its arguments, started in the " +
		"directory of this file; empty is peftsearch-worker",
	"evaluator.stall": "minutes in which a worker must give a sign of life while it loads or trains; a silent " +
		"one is ended and its trial has failed; 0 waits for ever",
	"evaluator.analytic": "score plans by a formula instead of training, to try the commands",

	"baselines": "plans from the literature that run first, each with the training that defines it: {presets}; " +
		"head is the head alone",
}
