
class DoRA(LowRank):
    """m·V/‖V‖ takes the place of each target W, for V = W + (alpha/rank)·B·A and its rows' norms, through which no
    gradient goes (Liu et al. 2024)."""

    def __init__(self, config, plan):
        super().__init__(config, plan)
        for target in plan["targets"]:
            getattr(self, target).magnitude = nn.Parameter(torch.ones(shape(config, target)[1]))

    def output(self, target, y, x, linear, real):
        update = self._modules.get(target)
        if update is None:
            return y
        v = linear.weight + self.scale * (update.b @ update.a)
        return F.linear(x, v) * (update.magnitude / v.detach().norm(dim=1)) + linear.bias
