
class LowRank(Method):
    """Matrices A [rank, in] and B [out, rank] for each target."""

    def __init__(self, config, plan):
        super().__init__()
        self.scale = plan["alpha"] / plan["rank"]
        for target in plan["targets"]:
            inner, outer = shape(config, target)
            update = nn.Module()
            update.a = nn.Parameter(torch.zeros(plan["rank"], inner))
            update.b = nn.Parameter(torch.zeros(outer, plan["rank"]))
            update.gate = Gate(inner) if plan.get("gate") else None
            self.add_module(target, update)
