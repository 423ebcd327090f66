
class LoRA(LowRank):
    """(alpha/rank)·B·A is added to each target (Hu et al. 2021); with a gate, gate·B·A."""

    def output(self, target, y, x, linear, real):
        update = self._modules.get(target)
        if update is None:
            return y
        scale = self.scale if update.gate is None else update.gate(x, real)
        return y + scale * F.linear(F.linear(x, update.a), update.b)
