#!/usr/bin/env python3
"""A checkpoint of random weights with the real shapes of a published Qwen3-VL and fewer layers: for measuring, not for answers.

    make_slice.py --model 30B-A3B --layers 4 --out FOLDER [--vision-depth 3]

Sizes are those of the published config.json files (the vocabulary of 151936 included); text layers and vision blocks are as
many as asked for (and DeepStack features as many as layers can take, at most 3). Weights are normal with the deviation of the published initializer (0.02), norms 1, biases 0."""
import argparse
import json
import pathlib
import shutil
import struct
import sys

try:
    import numpy as np
except ImportError as missing:
    sys.exit(f"make_slice.py: {missing}: expected NumPy, which draws the weights; install it (apt install python3-numpy)")

SOURCE = pathlib.Path(__file__).resolve().parents[2]
TOKENIZER = SOURCE / "tests" / "data" / "reference" / "tokenizer"
TEMPLATE = SOURCE / "tests" / "data" / "goldens" / "checkpoints" / "tiny-dense" / "chat_template.json"
# hidden, query heads, KV heads, dense MLP, experts, expert MLP, tied head; layers of the whole model are listed beside
MODELS = {
    "2B": (2048, 16, 8, 6144, 0, 0, True),
    "4B": (2560, 32, 8, 9728, 0, 0, True),
    "8B": (4096, 32, 8, 12288, 0, 0, False),
    "32B": (5120, 64, 8, 25600, 0, 0, False),
    "30B-A3B": (2048, 32, 4, 6144, 128, 768, False),
    "235B-A22B": (4096, 64, 4, 12288, 128, 1536, False),
}
VOCABULARY, HEAD_DIM, CHOSEN = 151936, 128, 8


def config(model, layers, vision_depth):
    hidden, heads, kv_heads, mlp, experts, expert_mlp, tied = MODELS[model]
    text = {
        "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 151643, "dtype": "bfloat16", "eos_token_id": 151645, "head_dim": HEAD_DIM,
        "hidden_act": "silu", "hidden_size": hidden, "initializer_range": 0.02, "intermediate_size": mlp, "max_position_embeddings": 262144,
        "num_attention_heads": heads, "num_hidden_layers": layers, "num_key_value_heads": kv_heads, "rms_norm_eps": 1e-6,
        "rope_scaling": {"mrope_interleaved": True, "mrope_section": [24, 20, 20], "rope_type": "default"}, "rope_theta": 5000000,
        "tie_word_embeddings": tied, "use_cache": True, "vocab_size": VOCABULARY, "model_type": "qwen3_vl_moe_text" if experts else "qwen3_vl_text"}
    if experts:
        text |= {"decoder_sparse_step": 1, "mlp_only_layers": [], "moe_intermediate_size": expert_mlp, "norm_topk_prob": True, "num_experts": experts,
                 "num_experts_per_tok": CHOSEN}
    small = model in ("2B", "4B")
    kind = "qwen3_vl_moe" if experts else "qwen3_vl"
    vision = {
        "deepstack_visual_indexes": list(range(min(3, layers))), "depth": vision_depth, "hidden_act": "gelu_pytorch_tanh", "hidden_size": 1024 if small else 1152,
        "in_channels": 3, "initializer_range": 0.02, "intermediate_size": 4096 if small else 4304, "model_type": kind, "num_heads": 16,
        "num_position_embeddings": 2304, "out_hidden_size": hidden, "patch_size": 16, "spatial_merge_size": 2, "temporal_patch_size": 2}
    return {"architectures": ["Qwen3VLMoeForConditionalGeneration" if experts else "Qwen3VLForConditionalGeneration"], "image_token_id": 151655,
            "model_type": kind, "text_config": text, "tie_word_embeddings": tied, "transformers_version": "4.57.1", "video_token_id": 151656,
            "vision_config": vision, "vision_end_token_id": 151653, "vision_start_token_id": 151652}


def tensors(settings):
    """(name, shape, what): `what` is "weight", "one" or "zero"."""
    text, vision = settings["text_config"], settings["vision_config"]
    hidden, layers = text["hidden_size"], text["num_hidden_layers"]
    prefix = "model.language_model."
    yield prefix + "embed_tokens.weight", (VOCABULARY, hidden), "weight"
    for n in range(layers):
        layer = f"{prefix}layers.{n}."
        yield layer + "input_layernorm.weight", (hidden,), "one"
        for name, heads in (("q", text["num_attention_heads"]), ("k", text["num_key_value_heads"]), ("v", text["num_key_value_heads"])):
            yield f"{layer}self_attn.{name}_proj.weight", (heads * HEAD_DIM, hidden), "weight"
        yield layer + "self_attn.o_proj.weight", (hidden, text["num_attention_heads"] * HEAD_DIM), "weight"
        yield layer + "self_attn.q_norm.weight", (HEAD_DIM,), "one"
        yield layer + "self_attn.k_norm.weight", (HEAD_DIM,), "one"
        yield layer + "post_attention_layernorm.weight", (hidden,), "one"
        if "num_experts" in text:
            experts, inner = text["num_experts"], text["moe_intermediate_size"]
            yield layer + "mlp.gate.weight", (experts, hidden), "weight"
            yield layer + "mlp.experts.gate_up_proj", (experts, hidden, 2 * inner), "weight"
            yield layer + "mlp.experts.down_proj", (experts, inner, hidden), "weight"
        else:
            inner = text["intermediate_size"]
            yield layer + "mlp.gate_proj.weight", (inner, hidden), "weight"
            yield layer + "mlp.up_proj.weight", (inner, hidden), "weight"
            yield layer + "mlp.down_proj.weight", (hidden, inner), "weight"
    yield prefix + "norm.weight", (hidden,), "one"
    if not text["tie_word_embeddings"]:
        yield "lm_head.weight", (VOCABULARY, hidden), "weight"

    width, inner = vision["hidden_size"], vision["intermediate_size"]

    def linear(name, rows, columns):
        yield name + ".weight", (rows, columns), "weight"
        yield name + ".bias", (rows,), "zero"

    def norm(name, columns):
        yield name + ".weight", (columns,), "one"
        yield name + ".bias", (columns,), "zero"

    yield "model.visual.patch_embed.proj.weight", (width, 3, 2, 16, 16), "weight"
    yield "model.visual.patch_embed.proj.bias", (width,), "zero"
    yield "model.visual.pos_embed.weight", (vision["num_position_embeddings"], width), "weight"
    for n in range(vision["depth"]):
        block = f"model.visual.blocks.{n}."
        yield from norm(block + "norm1", width)
        yield from norm(block + "norm2", width)
        yield from linear(block + "attn.qkv", 3 * width, width)
        yield from linear(block + "attn.proj", width, width)
        yield from linear(block + "mlp.linear_fc1", inner, width)
        yield from linear(block + "mlp.linear_fc2", width, inner)
    for name, columns in [("merger", width)] + [(f"deepstack_merger_list.{k}", 4 * width) for k in range(len(vision["deepstack_visual_indexes"]))]:
        yield from norm(f"model.visual.{name}.norm", columns)
        yield from linear(f"model.visual.{name}.linear_fc1", 4 * width, 4 * width)
        yield from linear(f"model.visual.{name}.linear_fc2", hidden, 4 * width)


def bf16(values):
    return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)


class Values:
    """Runs of one long block of normal numbers, each tensor from another place: the time of a product does not depend on them,
    and no two experts are alike."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.block = bf16(self.random.standard_normal(1 << 24, dtype=np.float32) * np.float32(0.02))

    def write(self, file, count, what):
        if what != "weight":
            file.write(np.full(count, 0x3F80 if what == "one" else 0, np.uint16).tobytes())
            return
        while count > 0:
            first = int(self.random.integers(0, len(self.block) // 2))
            part = self.block[first:first + min(count, len(self.block) // 2)]
            file.write(memoryview(part))
            count -= len(part)


def write_shard(path, listed, values):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, shape, _ in listed:
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, shape, what in listed:
            values.write(file, int(np.prod(shape)), what)
    return at


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, choices=MODELS)
    parser.add_argument("--layers", type=int, required=True)
    parser.add_argument("--vision-depth", type=int, default=3)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.layers < 1 or arguments.vision_depth < 3:
        sys.exit(f"make_slice.py: --layers {arguments.layers} --vision-depth {arguments.vision_depth}: expected at least 1 and 3 (three blocks feed DeepStack)")
    settings = config(arguments.model, arguments.layers, arguments.vision_depth)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "config.json").write_text(json.dumps(settings, indent=1))
    (arguments.out / "generation_config.json").write_text(json.dumps({"do_sample": False, "eos_token_id": [151645, 151643], "pad_token_id": 151643}))
    size = {"patch_size": 16, "temporal_patch_size": 2, "merge_size": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (arguments.out / "preprocessor_config.json").write_text(json.dumps(size | {"size": {"longest_edge": 16777216, "shortest_edge": 65536}}))
    (arguments.out / "video_preprocessor_config.json").write_text(json.dumps(size | {"size": {"longest_edge": 25165824, "shortest_edge": 4096}}))
    for source in [*TOKENIZER.iterdir(), TEMPLATE]:
        shutil.copy(source, arguments.out / source.name)

    values, shards = Values(arguments.seed), {}
    for name, shape, what in tensors(settings):  # a shard for each text layer, one for the rest
        key = int(name.split(".layers.")[1].split(".")[0]) + 1 if ".layers." in name else 0
        shards.setdefault(key, []).append((name, shape, what))
    total, where = 0, {}
    for key, listed in sorted(shards.items()):
        file = f"model-{key + 1:05}-of-{len(shards):05}.safetensors"
        total += write_shard(arguments.out / file, listed, values)
        where |= {name: file for name, _, _ in listed}
    (arguments.out / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": where}, indent=1))
    print(f"{arguments.out}: {arguments.model} with {arguments.layers} layers, {total / 1e9:.2f} GB in {len(shards)} shards")


if __name__ == "__main__":
    main()
