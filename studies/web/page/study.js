'use strict'
// Study is what is known of a study. Trials are columns by number; what comes later replaces what was there.
class Study {
  constructor(view) {
    this.trials = {}
    this.merge(view)
  }

  merge(view) {
    const {trials, ...rest} = view
    Object.assign(this, rest)
    for (const [name, column] of Object.entries(trials)) {
      if (!Array.isArray(column)) continue
      const all = (this.trials[name] ??= [])
      trials.number.forEach((number, i) => {
        all[number] = column[i]
      })
    }
    this.failures = {...this.failures, ...trials.failure}
    this.count = this.trials.number.length
    this.onFront = new Set(this.front)
    this.test = new Map(this.confirmed.filter(c => c.trial !== null).map(c => [c.trial, c]))
  }

  numbers(condition = () => true) {
    const out = []
    for (let i = 0; i < this.count; i++) if (condition(i)) out.push(i)
    return out
  }

  // scored lists the trials with a score that can be compared: complete ones.
  scored(shown) {
    return this.numbers(i => this.trials.state[i] === 'complete' && shown(i))
  }

  // size is that of one module, 0 for none.
  size(i, method, layer) {
    const m = this.trials.modules[i]
    for (let k = 0; k < m.length; k += 2)
      if (m[k + 1] === layer && this.modules[m[k]].method === method) return this.modules[m[k]].size
    return 0
  }

  // places lists where any of the trials has modules, by layer (−1 is the input) and method.
  places(trials) {
    const used = new Set(
      trials.flatMap(i =>
        this.trials.modules[i].flatMap((kind, k, m) => (k % 2 ? [] : [`${m[k + 1]} ${this.modules[kind].method}`]))
      )
    )
    const places = []
    for (let layer = -1; layer < this.geometry.layers; layer++) {
      for (const method of this.methods)
        if (used.has(`${layer} ${method}`))
          places.push({layer, method, name: `${layer < 0 ? 'input' : `L${layer}`} ${method}`})
    }
    return places
  }

  // plan describes a plan in a line, as the command line does.
  plan(i) {
    const m = this.trials.modules[i],
      where = new Map()
    for (let k = 0; k < m.length; k += 2) {
      if (!where.has(m[k])) where.set(m[k], [])
      if (m[k + 1] >= 0) where.get(m[k]).push(m[k + 1])
    }
    return (
      [...where]
        .map(([kind, layers]) => this.modules[kind].name + (layers.length ? ` L${ranges(layers)}` : ''))
        .join(' · ') || 'head only'
    )
  }

  // uncertain writes a score with its standard deviation by the choice of the dev rows, where that is known.
  uncertain(i) {
    const sd = this.trials.row_sd[i]
    return score(this.trials.score[i]) + (sd === null ? '' : ` ± ${score(sd)}`)
  }

  percent(params) {
    return (100 * params) / this.geometry.backbone_params
  }

  describe(i) {
    const t = this.trials,
      lines = [`trial ${i} · ${t.state[i]}${this.onFront.has(i) ? ' · on the front' : ''}`]
    const facts = [`${thousands(t.params[i])} parameters (${this.percent(t.params[i]).toFixed(3)} % of the model)`]
    if (t.score[i] !== null) facts.unshift(`${this.metric} ${this.uncertain(i)}`)
    if (t.forecast[i] !== null) facts.push(`forecast ${score(t.forecast[i])}`)
    const test = this.test.get(i)?.test
    if (test) facts.push(`on test ${spread(test)}`)
    lines.push(...facts, this.plan(i))
    if (this.failures[i]) lines.push(this.failures[i])
    return lines.join('\n')
  }
}

const spread = test =>
  test.interval
    ? `${score(test.mean)}, 95 % ${score(test.interval[0])} to ${score(test.interval[1])} (${test.seeds} seeds)`
    : `${score(test.mean)} (1 seed)`

// ranges writes ascending integers briefly: 0,1,2,5 is 0-2,5.
function ranges(values) {
  const parts = []
  for (let i = 0, j; i < values.length; i = j + 1) {
    for (j = i; values[j + 1] === values[j] + 1;) j++
    parts.push(j > i ? `${values[i]}-${values[j]}` : `${values[i]}`)
  }
  return parts.join(',')
}

// filter makes a test of trials from words, all of which must hold: part of the plan, the state or the origin, or a
// comparison such as score>0.8, params<100k, trial=7, or the word front. Its hint names the words that mean nothing
// here.
function filter(text, study) {
  const t = study.trials,
    unknown = []
  const columns = {score: t.score, params: t.params, trial: t.number, seconds: t.seconds, rate: t.learning_rate}
  const tests = text
    .toLowerCase()
    .split(/\s+/)
    .filter(Boolean)
    .map(word => {
      const [, name, sign, digits, unit] = word.match(/^(\w+)(<=|>=|<|>|=)([\d.e-]+)([km]?)$/) ?? []
      if (columns[name] && digits !== '') {
        const value = digits * ({k: 1e3, m: 1e6}[unit] ?? 1),
          column = columns[name]
        const holds = {
          '<': (a, b) => a < b,
          '>': (a, b) => a > b,
          '<=': (a, b) => a <= b,
          '>=': (a, b) => a >= b,
          '=': (a, b) => a === b,
        }[sign]
        return i => column[i] !== null && holds(column[i], value)
      }
      if (word === 'front') return i => study.onFront.has(i)
      const holds = i => [t.state[i], t.origin[i], study.plan(i)].some(text => text.toLowerCase().includes(word))
      if (study.count && !study.numbers().some(holds)) unknown.push(word)
      return holds
    })
  const shown = i => tests.every(test => test(i))
  shown.hint = unknown.length
    ? `No trial has ${unknown.map(word => `“${word}”`).join(' or ')}. ` +
      'Words are part of a plan, a state or an origin, as in lora, L4-5, ' +
      `complete; front; or comparisons of ${Object.keys(columns).join(', ')}, as in score>0.8 or params<100k.`
    : ''
  return shown
}
