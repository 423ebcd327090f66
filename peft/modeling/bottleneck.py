
class Bottleneck(Method):
    """scale·(W_up·f(W_down·h + c_down) + c_up), with a gate times that."""

    own = {"non_linearity": "relu", "scale": 1.0}  # unless the plan says otherwise

    def __init__(self, config, plan):
        super().__init__()
        d, plan = config.hidden_size, self.own | plan
        self.down, self.up = nn.Linear(d, plan["width"]), nn.Linear(plan["width"], d)
        self.function = FUNCTIONS[plan["non_linearity"]]
        self.scale = nn.Parameter(torch.ones(1)) if plan.get("learned_scale") else plan["scale"]
        self.gate = Gate(d) if plan.get("gate") else None

    def forward(self, h, real):
        y = self.scale * self.up(self.function(self.down(h)))
        return y if self.gate is None else y * self.gate(h, real)
