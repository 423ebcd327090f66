"""{{.Plan}}

{{.Name}} with these modules, and the head of its task. peftsearch wrote this file; it needs torch and transformers
alone. config.plan says which modules each layer has.
"""
import torch
import torch.nn.functional as F
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import {{.Output}}


class HybridConfig(PretrainedConfig):
    model_type = "peftsearch-{{.Kind}}"


def shape(config, target):
    """Inputs and outputs of a matrix of a layer."""
    d, f = config.hidden_size, config.intermediate_size
    return {"ffn_in": (d, f), "ffn_out": (f, d)}.get(target, (d, d))


FUNCTIONS = {"gelu": F.gelu, "gelu_new": lambda x: F.gelu(x, approximate="tanh"), "relu": F.relu, "silu": F.silu,
             "swish": F.silu, "tanh": torch.tanh}
TARGETS = "query", "key", "value", "attention_output", "ffn_in", "ffn_out"


class Method(nn.Module):
    """What a module changes in its layer: nothing, unless it overrides one of these."""

    def input(self, target, x):  # of a matrix
        return x

    def output(self, target, y, x, linear, real):  # y = linear(x); real [n, s] is False for padding
        return y

    def keys_values(self, k, v, visible, x):  # k, v [n, s, D] are made of x; visible [n, s] can be attended to
        return k, v, visible

    def after_attention(self, total, f, a, norm, real):  # total = f + a, f the attention's output; norm comes next
        return total

    def after_ffn(self, total, f, a, norm, real):
        return total

    def before_norm(self, x, ids, types, real):  # of the embeddings x, at the input
        return x, ids, types, real

    def after_norm(self, x, real):
        return x, real

    def own(self, x):  # of all tokens x [n, s, D], those of the text
        return x

    def trains(self, name):  # whether it trains this parameter of the layer
        return False

    def share(self, shared):  # what modules of several layers have in common is put there
        pass

{{range .Parts}}
{{.}}

{{end}}
METHODS = { {{- .Methods -}} }


class Block(nn.Module):
    """The matrices and norms of a layer, and its modules."""

    scale = None  # of attention scores; that is 1/√(D/heads)

    def __init__(self, config, index):
        super().__init__()
        for target in TARGETS:
            self.add_module(target, nn.Linear(*shape(config, target)))
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.ffn_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.function = FUNCTIONS[config.hidden_act]
        self.heads, self.dropout = config.num_attention_heads, nn.Dropout(config.hidden_dropout_prob)
        plan = config.plan["layers"][index]
        self.methods = [method for method in METHODS if method in plan]
        for method in self.methods:
            self.add_module(method, METHODS[method](config, plan[method]))

    def added(self):
        return [self._modules[method] for method in self.methods]

    def project(self, target, x, real):
        linear = getattr(self, target)
        for module in self.added():
            x = module.input(target, x)
        y = linear(x)
        for module in self.added():
            y = module.output(target, y, x, linear, real)
        return y

    def attention(self, x, real):  # [n, s, D], [n, s]
        n, s, d = x.shape
        q, k, v = (self.project(target, x, real) for target in ("query", "key", "value"))
        visible = real
        for module in self.added():
            k, v, visible = module.keys_values(k, v, visible, x)
        q, k, v = (y.view(n, -1, self.heads, d // self.heads).transpose(1, 2) for y in (q, k, v))
        p = self.dropout.p if self.training else 0
        f = F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask(visible, s), dropout_p=p, scale=self.scale)
        return self.dropout(self.project("attention_output", f.transpose(1, 2).reshape(n, s, d), real))

    def ffn(self, x, real):
        return self.dropout(self.project("ffn_out", self.function(self.project("ffn_in", x, real)), real))

    def sum(self, hook, f, a, norm, real):
        total = f + a
        for module in self.added():
            total = getattr(module, hook)(total, f, a, norm, real)
        return total


{{.Family}}


class Hybrid(Backbone):
    def __init__(self, config):
        super().__init__(config)
        self.input = nn.ModuleDict({m: METHODS[m](config, plan) for m, plan in config.plan.get("input", {}).items()})
        self.layers = nn.ModuleList(Layer(config, index) for index in range(config.num_hidden_layers))
        self.shared = nn.Module()
        for layer in self.layers:
            for module in layer.added():
                module.share(self.shared)
        self.head = Head(config)
        self.post_init()

    def get_input_embeddings(self):
        return self.word_embeddings

    def set_input_embeddings(self, embeddings):
        self.word_embeddings = embeddings

    def freeze_backbone(self):
        """Leaves the modules and the head to be trained, as in peftsearch."""
        self.requires_grad_(False)
        self.head.requires_grad_(True)
        self.input.requires_grad_(True)
        self.shared.requires_grad_(True)
        for layer in self.layers:
            for module in layer.added():
                module.requires_grad_(True)
                for name, parameter in layer.named_parameters():
                    if module.trains(name):
                        parameter.requires_grad = True

    def encode(self, input_ids, attention_mask=None, token_type_ids=None):
        """The last hidden states [n, s, D], of the input's modules too, and which are no padding [n, s]."""
        ids, x = input_ids, self.word_embeddings(input_ids)
        real = torch.ones_like(ids).bool() if attention_mask is None else attention_mask.bool()
        types = torch.zeros_like(ids) if token_type_ids is None else token_type_ids
        for module in self.input.values():
            x, ids, types, real = module.before_norm(x, ids, types, real)
        x = self.embed(x, ids, types, real)
        for module in self.input.values():
            x, real = module.after_norm(x, real)
        for layer in self.layers:
            x = layer(x, real)
        return self.end(x), real

    def encode_row(self, *inputs):
        """The last hidden state that stands for each row [n, D]."""
        return self.row(*self.encode(*inputs))

    def encode_text(self, *inputs):
        """The last hidden states of the text's tokens [n, s, D]."""
        x, _ = self.encode(*inputs)
        for module in self.input.values():
            x = module.own(x)
        return x


class Head(nn.Linear):
    """W·h + c, or W·tanh(W_p·h + c_p) + c."""

    def __init__(self, config):
        inner = config.hidden_size * config.head_states
        super().__init__(inner, config.head_outputs)
        self.dense = nn.Linear(inner, inner) if config.head == "dense" else None

    def forward(self, h):
        return super().forward(h if self.dense is None else torch.tanh(self.dense(h)))


{{.Head}}
