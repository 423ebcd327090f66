"""Run the samplers of Optuna and BoTorch on the problems that bench-search serves, and append each run to a file.

Runs that are in the file already are skipped. Every run has one thread.
"""

import os

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse
import importlib.metadata
import json
import pathlib
import subprocess
import sys
import time
import warnings

# Of BoTorch: steps of a fit, which goes on from the fit before; samples of the acquisition; starts of its local search.
FIT, SAMPLES, STARTS = 50, 32, 3

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent


class Episode:
    """One run on a problem, played over the pipes of bench-search serve."""

    def __init__(self, server, problem, seed):
        self.process = subprocess.Popen(
            [server, "serve", problem, str(seed)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        problem = json.loads(self.process.stdout.readline())
        self.levels, self.initial, self.chance = problem["levels"], problem["initial"], problem["chance"]
        self.times = []

    def ask(self, **request):
        # In one piece: print writes the end of the line on its own, which a server that is done no longer reads.
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def cost(self, points):
        return self.ask(cost=points)

    def evaluate(self, point, seconds):
        """The noisy score, to be maximised, and the cost, to be minimised; seconds is what the suggestion took."""
        self.times.append(seconds)
        answer = self.ask(evaluate=list(map(int, point)))
        return answer["score"], answer["cost"]

    def finish(self):
        run = self.ask(finish=self.times)
        self.process.stdin.close()
        self.process.wait()
        return run


def optuna_arm(make_sampler):
    def run(episode, seed, evaluations, shared):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(directions=["maximize", "minimize"], sampler=make_sampler(optuna.samplers, seed))
        space = {f"x{i:02}": optuna.distributions.IntDistribution(0, n - 1) for i, n in enumerate(episode.levels)}
        for point in episode.initial if shared else []:
            study.enqueue_trial(dict(zip(space, point)))
        for _ in range(evaluations):
            start = time.perf_counter()
            trial = study.ask(space)
            seconds = time.perf_counter() - start
            study.tell(trial, episode.evaluate([trial.params[name] for name in space], seconds))

    return run, ("optuna", "torch", "scipy", "numpy")


def botorch_run(episode, seed, evaluations, shared):
    """qLogNEHVI (Daulton et al. 2021, Ament et al. 2023) on a GP of the score; the cost is a function of the point.

    The acquisition is a mean of SAMPLES quasi-random draws. From the STARTS best of 512 random points and 512 front
    members with 1 to 4 changed levels, a local search climbs it to where no change of one level is better. BoTorch's
    own (optimize_acqf_discrete_local_search) looks at all changes before each step, and ends at the same kind of point
    in five to ten times the time. The baseline is not pruned, which would take longer than it saves.
    """
    import numpy as np
    import torch
    from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
    from botorch.acquisition.multi_objective.objective import GenericMCMultiOutputObjective
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from botorch.sampling.get_sampler import get_sampler
    from botorch.utils.multi_objective.pareto import is_non_dominated
    from gpytorch.mlls import ExactMarginalLogLikelihood

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    levels = torch.tensor(episode.levels)
    top = (levels - 1).double()
    mix = torch.randint(2**62, levels.shape, generator=random)  # points @ mix, which wraps, is a key
    known = {}

    def draw(count):
        return (torch.rand(count, len(levels), generator=random, dtype=torch.double) * levels).long()

    def negative_cost(x):
        points = (x * top).round().long().reshape(-1, len(levels))
        keys, first, places = np.unique((points @ mix).numpy(), return_index=True, return_inverse=True)
        missing = [i for i, key in enumerate(keys) if key not in known]
        if missing:
            known.update(zip(keys[missing], episode.cost(points[first[missing]].tolist())))
        costs = np.array([known[key] for key in keys])[places]
        return -torch.from_numpy(costs).reshape(*x.shape[:-1], 1)

    # As an objective, because the posterior of a second model would not be that of a GP, whose root can be cached.
    objectives = GenericMCMultiOutputObjective(
        lambda scores, X: torch.cat([scores, negative_cost(X).expand(*scores.shape[:-1], 1)], -1)
    )

    class Acquisition(qLogNoisyExpectedHypervolumeImprovement):
        """BoTorch computes the posterior of the baseline for each candidate anew; here all candidates share it."""

        def _compute_posterior_samples_and_concat_pending(self, X):
            self._set_sampler(1, self.model.posterior(torch.cat([self.X_baseline, X[0]])))
            old = len(self.X_baseline)
            joint = self.model.posterior(torch.cat([self.X_baseline, X[:, 0]])).distribution
            covariance = joint.covariance_matrix
            root = torch.linalg.solve_triangular(self._baseline_L, covariance[:old, old:], upper=False)
            rest = (covariance.diagonal()[old:] - root.square().sum(0)).clamp_min(1e-10).sqrt()
            draws = self.sampler.base_samples.reshape(SAMPLES, old + 1)
            samples = joint.mean[old:] + draws[:, :old] @ root + draws[:, old:] * rest
            return samples[..., None, None], X

    def evaluate(acquisition, candidates):
        """-inf for points that have been tried."""
        with torch.no_grad():
            worths = torch.cat([acquisition((some / top).unsqueeze(1)) for some in candidates.split(128)])
        return worths.where(~torch.isin(candidates @ mix, torch.stack(points) @ mix), -torch.inf)

    def climb(acquisition, at, worths):
        """Take the dimensions in turn to their best levels, until no change of one level is better."""
        moved = True
        while moved:
            moved = False
            for d in torch.randperm(len(levels), generator=random):
                options = at.repeat_interleave(int(levels[d]), 0)
                options[:, d] = torch.arange(int(levels[d])).repeat(len(at))
                best, level = evaluate(acquisition, options).reshape(len(at), -1).max(1)
                better = best > worths + 1e-6
                at[better, d], worths[better] = level[better], best[better]
                moved |= bool(better.any())
        return at, worths

    if shared:
        start = torch.tensor(episode.initial)
    else:
        sobol = torch.quasirandom.SobolEngine(len(levels), scramble=True, seed=seed)
        start = (sobol.draw(len(episode.initial), dtype=torch.double) * levels).long()
    points, values, fitted = [], [], None
    for number in range(evaluations):
        begin = time.perf_counter()
        if number < len(start):
            point = start[number]
        else:
            x = torch.stack(points) / top
            y = torch.tensor(values, dtype=torch.double)
            gp = SingleTaskGP(x, y[:, :1])  # standardises, and infers the noise
            if fitted:
                gp.load_state_dict(fitted, strict=False)
            fit_gpytorch_mll(
                ExactMarginalLogLikelihood(gp.likelihood, gp), optimizer_kwargs={"options": {"maxiter": FIT}}
            )
            fitted = {name: value for name, value in gp.state_dict().items() if "raw_" in name}
            acquisition = Acquisition(
                model=gp,
                objective=objectives,
                ref_point=[episode.chance, -1.0],
                X_baseline=x,
                cache_root=True,
                sampler=get_sampler(gp.posterior(x), torch.Size([SAMPLES]), seed=number),
            )
            front = torch.stack(points)[is_non_dominated(y)]
            near = front[torch.randint(len(front), (512,), generator=random)].clone()
            for row in near:
                count = int(torch.randint(1, 5, (1,), generator=random))
                for d in torch.randint(len(levels), (count,), generator=random):
                    row[d] = torch.randint(int(levels[d]), (1,), generator=random)
            candidates = torch.cat([draw(512), near])
            worths = evaluate(acquisition, candidates)
            first = worths.topk(STARTS).indices
            climbed, worths = climb(acquisition, candidates[first], worths[first])
            point = climbed[worths.argmax()]
        seconds = time.perf_counter() - begin
        score, cost = episode.evaluate(point.tolist(), seconds)
        points.append(point)
        values.append([score, -cost])


ARMS = {
    "optuna random": optuna_arm(lambda samplers, seed: samplers.RandomSampler(seed)),
    "optuna tpe": optuna_arm(lambda samplers, seed: samplers.TPESampler(seed=seed)),
    "optuna tpe multivariate": optuna_arm(lambda samplers, seed: samplers.TPESampler(seed=seed, multivariate=True)),
    "optuna nsga2": optuna_arm(lambda samplers, seed: samplers.NSGAIISampler(seed=seed, population_size=20)),
    "optuna gp": optuna_arm(lambda samplers, seed: samplers.GPSampler(seed=seed)),
    "botorch qlognehvi": (botorch_run, ("botorch", "gpytorch", "torch", "numpy")),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("results", type=pathlib.Path)
    parser.add_argument("--server", default=ROOT / "bin/bench-search", help="the bench-search program")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--problems", nargs="+", help="all, if not given")
    parser.add_argument("--designs", nargs="+", choices=["own", "shared"], default=["own", "shared"])
    parser.add_argument("--seeds", type=int, default=20, help="seeds, from 0")
    parser.add_argument("--evaluations", type=int, default=200)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    problems = args.problems or subprocess.check_output([args.server, "problems"], text=True).split()
    key = lambda run: tuple(run[k] for k in ("problem", "arm", "design", "seed"))
    done = {}
    if args.results.exists():
        for run in map(json.loads, args.results.read_text().splitlines()):
            done[key(run)] = max(done.get(key(run), 0), run["evaluations"])
    for seed in range(args.seeds):
        for problem in problems:
            for arm in args.arms:
                for design in args.designs:
                    run = {"problem": problem, "arm": arm, "design": design, "seed": seed}
                    if done.get(key(run), 0) >= args.evaluations:
                        continue
                    play, packages = ARMS[arm]
                    episode = Episode(args.server, problem, seed)
                    play(episode, seed, args.evaluations, design == "shared")
                    run = episode.finish() | run
                    run["versions"] = {p: importlib.metadata.version(p) for p in packages}
                    with args.results.open("a") as file:
                        file.write(json.dumps(run) + "\n")
                    print(
                        problem,
                        arm,
                        design,
                        seed,
                        run["volumes"],
                        run["seconds"],
                        sep="  ",
                        file=sys.stderr,
                        flush=True,
                    )


if __name__ == "__main__":
    main()
