
class Prefix(Method):
    """Keys and values that every row attends to (Li & Liang 2021), with a gate times that."""

    def __init__(self, config, plan):
        super().__init__()
        self.keys = nn.Parameter(torch.zeros(plan["length"], config.hidden_size))
        self.values = nn.Parameter(torch.zeros(plan["length"], config.hidden_size))
        self.gate = Gate(config.hidden_size) if plan.get("gate") else None

    def keys_values(self, k, v, visible, x):
        scale = 1 if self.gate is None else self.gate(x, visible)
        keys, values = (scale * t.expand(len(k), -1, -1) for t in (self.keys, self.values))
        visible = F.pad(visible, (len(self.keys), 0), value=True)
        return torch.cat([keys, k], 1), torch.cat([values, v], 1), visible
