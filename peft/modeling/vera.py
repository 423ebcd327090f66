
class Projections(nn.Module):
    """The random A and B of all VeRA modules of a rank: a smaller target takes their first columns and rows."""

    def __init__(self, config, rank):
        super().__init__()
        widest = max(config.hidden_size, config.intermediate_size)
        self.register_buffer("a", torch.zeros(rank, widest))
        self.register_buffer("b", torch.zeros(widest, rank))


class VeRA(Method):
    """diag(b)·B·diag(d)·A is added to each target; A and B are not trained (Kopiczko et al. 2024)."""

    def __init__(self, config, plan):
        super().__init__()
        self.config, self.rank = config, plan["rank"]
        for target in plan["targets"]:
            update = nn.Module()
            update.b = nn.Parameter(torch.zeros(shape(config, target)[1]))
            update.d = nn.Parameter(torch.full((self.rank,), 0.1))
            self.add_module(target, update)

    def share(self, shared):
        name = f"vera_{self.rank}"
        if not hasattr(shared, name):
            shared.add_module(name, Projections(self.config, self.rank))
        self.projections = [getattr(shared, name)]  # in a list it stays the model's

    def output(self, target, y, x, linear, real):
        update = self._modules.get(target)
        if update is None:
            return y
        inner, outer = shape(self.config, target)
        a, b = self.projections[0].a[:, :inner], self.projections[0].b[:outer]
        return y + update.b * F.linear(update.d * F.linear(x, a), b)
