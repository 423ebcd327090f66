
class Rule(nn.Module):
    """The first factors of the matrices of all Compacter modules."""

    def __init__(self):
        super().__init__()
        self.rule = nn.Parameter(torch.zeros(4, 4, 4))


class Kronecker(nn.Module):
    """x·H + c for H, the sum of A_i ⊗ (s_i·t_i)."""

    def __init__(self, inner, outer):
        super().__init__()
        self.left, self.right = nn.Parameter(torch.zeros(4, inner // 4, 1)), nn.Parameter(torch.zeros(4, 1, outer // 4))
        self.bias = nn.Parameter(torch.zeros(outer))

    def forward(self, x):
        return x @ sum(torch.kron(a, w) for a, w in zip(self.rules[0].rule, self.left @ self.right)) + self.bias


class CompactBottleneck(Bottleneck):
    own = Bottleneck.own | {"non_linearity": "gelu"}

    def __init__(self, config, plan):
        super().__init__(config, plan)
        self.down, self.up = Kronecker(config.hidden_size, plan["width"]), Kronecker(plan["width"], config.hidden_size)


class Compacter(Method):
    """Bottlenecks of small matrices, as Houlsby's pair, or with ffn_only as Serial (Mahabadi et al. 2021)."""

    def __init__(self, config, plan):
        super().__init__()
        self.attention = None if plan.get("ffn_only") else CompactBottleneck(config, plan)
        self.ffn = CompactBottleneck(config, plan)

    def share(self, shared):
        if not hasattr(shared, "compacter"):
            shared.compacter = Rule()
        for module in self.modules():
            if isinstance(module, Kronecker):
                module.rules = [shared.compacter]  # in a list it stays the model's

    def after_attention(self, total, f, a, norm, real):
        return total if self.attention is None else total + self.attention(f, real)

    def after_ffn(self, total, f, a, norm, real):
        return total + self.ffn(norm(f + a) if self.attention is None else f, real)
