
class Prompt(Method):
    """Trained tokens before those of every row, or behind the first one (Lester et al. 2021). They take the place of
    word embeddings, with positions of their own and type 0, or join after the norm."""

    def __init__(self, config, plan):
        super().__init__()
        self.tokens = nn.Parameter(torch.zeros(plan["length"], config.hidden_size))
        self.at, self.normed = int(plan.get("after_first", False)), plan.get("normed", False)

    def insert(self, x, tokens):  # tokens [p, …] into every row of x [n, s, …]
        return torch.cat([x[:, :self.at], tokens.expand(len(x), *tokens.shape), x[:, self.at:]], 1)

    def before_norm(self, x, ids, types, real):
        if self.normed:
            return x, ids, types, real
        new = ids.new_full((len(self.tokens),), -1)  # the id of no token
        x, ids = self.insert(x, self.tokens), self.insert(ids, new)
        return x, ids, self.insert(types, 0 * new), self.insert(real, new < 0)

    def after_norm(self, x, real):
        if not self.normed:
            return x, real
        return self.insert(x, self.tokens), self.insert(real, real.new_ones(len(self.tokens)))

    def own(self, x):
        return torch.cat([x[:, :self.at], x[:, self.at + len(self.tokens):]], 1)
