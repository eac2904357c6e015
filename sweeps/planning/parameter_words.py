"""What each parameter means in one line, its unit, and other names that people give it."""

from __future__ import annotations

# Parameter without its role -> (group, unit or '', one line). Groups are shown in the order of their first parameter.
WORDS: dict[str, tuple[str, str, str]] = {
    "arm": ("study", "", "Which of the study's methods are compared."),
    "tuning": ("study", "", "Which of an arm's tuning trials are made."),
    "route": ("study", "", "Which stages a cell has; in studies of arms each arm decides it."),
    "task": ("study", "", "What the networks are for; other tasks than classification test classes never trained on."),
    "resolution": ("images", "pixels", "Side of what the network reads; none: the data's own."),
    "filter": ("images", "", "How resolution is lost."),
    "blur": ("images", "pixels", "Sigma of a blur at full resolution, before resolution is lost."),
    "upsample_to": ("images", "pixels", "Side that images are enlarged to after the loss; none: not at all."),
    "augment": ("images", "", "Random changes of training images."),
    "pad": ("images", "pixels", "How far the crop of an augmentation may shift."),
    "train_images": ("images", "images", "Drawn from what validation leaves; 0: all."),
    "validation_fraction": ("images", "share", "Of the training images, kept for selection."),
    "split_seed": ("images", "", "Draws validation and the training images; the same for every seed."),
    "held_out": ("images", "share", "Of the classes, tested and not trained on, where the data names none."),
    "folds": ("images", "", "Verification: folds that are tested, whose people are not trained on; (): all."),
    "min_images": ("images", "images", "Classes with fewer are not trained on."),
    "subjects": ("images", "people", "Identification: how many are tested; 0: all that are held out."),
    "architecture": ("network", "", "The network; also torchvision:NAME and timm:NAME, with width=1."),
    "width": ("network", "factor", "Multiplies every channel count of our own networks."),
    "embedding": ("network", "numbers", "Width of the embedding layer; 0: the pooled features themselves."),
    "stem": ("network", "", "First layer: 3x3 of stride 1, or 7x7 of stride 2 and pooling for 96 pixels and more."),
    "start_weights": ("network", "path", "A file of weights that training begins with."),
    "init_from_assistant": ("network", "", "Whether the student begins with its assistant's weights."),
    "epochs": ("training", "epochs", "How often training goes over its images."),
    "batch_size": ("training", "images", "Images of a step."),
    "images_per_class": ("training", "images", "Of a class in a batch; 0: batches are drawn whatever the classes."),
    "optimizer": ("training", "", "SGD with momentum, or AdamW."),
    "learning_rate": ("training", "", "At its highest, after the warm-up."),
    "momentum": ("training", "", "Of SGD; the first beta of AdamW."),
    "nesterov": ("training", "", "Whether the momentum is Nesterov's."),
    "weight_decay": ("training", "", "Pull of the weights towards 0."),
    "schedule": ("training", "", "How the learning rate falls."),
    "milestones": ("training", "share", "Of training, where schedule=steps lowers the rate."),
    "decay": ("training", "factor", "That a step of schedule=steps multiplies the rate with."),
    "warmup_epochs": ("training", "epochs", "Over which the learning rate rises from 0."),
    "label_smoothing": ("training", "share", "Of the label that is spread over all classes."),
    "ema": ("training", "", "Decay per step of averaged weights; 0: none are kept."),
    "clip_norm": ("training", "", "Largest norm of the gradient; 0: unlimited."),
    "select": ("training", "", "Which epoch is kept: the last, or the best on validation."),
    "threads": ("training", "threads", "Of a stage; other numbers of them give other last digits."),
    "precision": ("training", "", "Of the arithmetic of a step."),
    "triplet.weight": ("triplet", "", "Of a triplet loss on labels; 0: none."),
    "triplet.margin": ("triplet", "", "Between the distances of positives and negatives."),
    "triplet.mining": ("triplet", "", "The hardest positive and negative of each anchor, or all triplets."),
    "method": ("distillation", "", "Losses that read the guide, joined by +; none: labels alone."),
    "distillation": ("distillation", "factor", "Multiplies every distillation term: one knob for all methods."),
    "cross_entropy": ("distillation", "factor", "Weight of the loss on labels."),
    "teacher_outputs": ("distillation", "", "Whether frozen networks run live, or their outputs are computed once."),
    "outputs_per_shard": ("distillation", "views", "Or epochs, that one stage of kept outputs computes."),
    "weights": ("given", "path", "A file of weights: the stage is checked instead of trained."),
    "family": ("given", "", "Layout of that file; auto: as recognised."),
    "order": ("given", "", "Of the colours that its network reads."),
    "mean": ("given", "", "Of pixels from 0 to 1, that its network wants; (): its own."),
    "std": ("given", "", "Their deviation; (): its own."),
    "side": ("given", "pixels", "That its network reads; 0: its own."),
    "test_resolution": (
        "evaluation",
        "pixels",
        "Side that test images are reduced to first; none: only the network's.",
    ),
    "reader": ("evaluation", "", "Classification by logits, or by the nearest neighbour."),
    "similarity": ("evaluation", "", "Of embeddings, where neighbours are compared."),
    "flip": ("evaluation", "", "Verification: whether the embedding of the mirrored image is added."),
    "gallery": ("evaluation", "images", "Identification: known images per person; 0: 80 % of them."),
    "head": ("evaluation", "", "Identification by a new softmax layer, or by the nearest."),
}

TITLES = {
    "study": "The study",
    "images": "Images",
    "network": "Networks",
    "training": "Training",
    "triplet": "Triplet loss on labels",
    "distillation": "Distillation",
    "given": "A teacher from a file",
    "evaluation": "Evaluation",
    "other": "Others",
}

# What people call parameters elsewhere -> ours. Also for one stage: student.lr. No name may be one of ours.
ALIASES = {
    **dict.fromkeys(("lr", "learn_rate", "learningrate", "base_lr", "init_lr", "lr_init"), "learning_rate"),
    **dict.fromkeys(("wd", "weightdecay", "l2_reg"), "weight_decay"),
    **dict.fromkeys(("bs", "batch", "batchsize", "bsz", "train_batch_size"), "batch_size"),
    **dict.fromkeys(("scheduler", "sched", "lr_scheduler", "lr_schedule", "lr_policy"), "schedule"),
    **dict.fromkeys(("mom", "beta1"), "momentum"),
    **dict.fromkeys(("res", "img_size", "image_size", "imgsz", "input_size", "low_resolution"), "resolution"),
    **dict.fromkeys(("arch", "model", "net", "network", "model_name"), "architecture"),
    **dict.fromkeys(("opt", "optim", "optimiser"), "optimizer"),
    **dict.fromkeys(("epoch", "n_epochs", "num_epochs", "max_epochs", "num_train_epochs"), "epochs"),
    **dict.fromkeys(("warmup", "warm_up", "warmup_epoch", "lr_warmup_epochs"), "warmup_epochs"),
    **dict.fromkeys(("smoothing", "ls", "label_smooth"), "label_smoothing"),
    **dict.fromkeys(("aug", "augmentation", "augmentations", "data_augmentation"), "augment"),
    **dict.fromkeys(("padding",), "pad"),
    **dict.fromkeys(
        ("clip", "grad_clip", "clip_grad", "clip_grad_norm", "max_grad_norm", "gradient_clip"), "clip_norm"
    ),
    **dict.fromkeys(("val_fraction", "val_split", "val_ratio", "validation_split"), "validation_fraction"),
    **dict.fromkeys(("embed_dim", "embedding_dim", "emb_dim", "embedding_size", "feat_dim"), "embedding"),
    **dict.fromkeys(("width_mult", "width_multiplier"), "width"),
    **dict.fromkeys(("lr_milestones", "lr_steps", "lr_decay_epochs"), "milestones"),
    **dict.fromkeys(("lr_decay", "lr_decay_rate", "lr_gamma"), "decay"),
    **dict.fromkeys(("num_images", "n_images", "train_size", "n_train"), "train_images"),
    **dict.fromkeys(("dtype", "amp", "amp_dtype"), "precision"),
    **dict.fromkeys(("num_threads", "n_threads"), "threads"),
    **dict.fromkeys(("ema_decay",), "ema"),
    **dict.fromkeys(("interpolation",), "filter"),
    **dict.fromkeys(("distill", "kd_method", "distill_method"), "method"),
    **dict.fromkeys(("kd_temperature", "kd_t"), "kd.temperature"),
    **dict.fromkeys(("checkpoint", "ckpt", "pretrained", "weights_path"), "weights"),
    **dict.fromkeys(("init_weights", "finetune_from"), "start_weights"),
}

# What is said by a flag of the command instead.
FLAGS = {
    **dict.fromkeys(
        ("seed", "seeds", "n_seeds", "num_seeds", "random_seed"), ("Seeds are set with --seeds", "--seeds 5")
    ),
    **dict.fromkeys(("data", "dataset", "data_set"), ("The data set is chosen with --data", "--data cifar100")),
    **dict.fromkeys(
        ("data_root", "data_dir", "root"), ("Where the data lie is said with --data-root", "--data-root DIR")
    ),
    "data_size": ("The side of packed images is set with --data-size", "--data-size 64"),
    "test_data": ("Another data set to test is named with --test-data", "--test-data lfw"),
    "preset": ("The preset is chosen with --preset", "--preset small"),
    **dict.fromkeys(
        ("trials", "n_trials", "num_trials"), ("The number of drawn cells is set with --trials", "--trials 40")
    ),
    **dict.fromkeys(("gpus", "n_gpus", "num_gpus"), ("GPUs are counted with --gpus", "--gpus 1")),
    **dict.fromkeys(
        ("jobs", "workers", "num_workers", "n_jobs"), ("What runs side by side is set with --jobs", "--jobs 2")
    ),
}
