
class IA3(Method):
    """Each target's output is multiplied by a vector, and ffn_out's input (Liu et al. 2022, "(IA)³")."""

    def __init__(self, config, plan):
        super().__init__()
        for target in plan["targets"]:
            inner, outer = shape(config, target)
            self.register_parameter(target, nn.Parameter(torch.ones(inner if target == "ffn_out" else outer)))

    def input(self, target, x):
        return x * self.ffn_out if target == "ffn_out" and target in self._parameters else x

    def output(self, target, y, x, linear, real):
        return y * self._parameters[target] if target != "ffn_out" and target in self._parameters else y
