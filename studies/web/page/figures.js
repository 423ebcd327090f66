'use strict'
// The figures of one study. Each is a function of the study, of the page's state (which trials are shown, whether sizes are
// on a logarithmic axis) and of a width.

const key = (name, text) => html('span', {class: `legend ${name}`}, html('span', {class: 'key', 'aria-hidden': 'true'}), html('span', {class: 'legend'}, text))

function drawFront(s, state, width) {
  const box = frame(width, 380), t = s.trials
  const complete = s.scored(state.shown), pruned = s.numbers(i => t.state[i] === 'pruned' && state.shown(i))
  const front = s.front, known = [...complete, ...pruned, ...front]
  const x = sizes(known.map(i => t.params[i]).concat(s.confirmed.filter(c => c.trial !== null).map(c => c.params)), box.left, box.right, state.log)
  const tests = s.confirmed.filter(c => c.trial !== null)
  const [low, high] = extent([...known.map(i => t.score[i]), ...tests.flatMap(c => c.test.interval ?? [c.test.mean])])
  const y = linear(low, high, box.bottom, box.top)
  const at = i => [x.at(t.params[i]), y.at(t.score[i])]
  const parts = axes(x, y, box, {x: 'trainable parameters, without the head', y: s.metric})
  parts.push(dots(pruned.map(at), 4, 'pruned faint'), dots(complete.filter(i => !s.onFront.has(i)).map(at), 5, 'complete'))
  if (front.length) {
    parts.push(svg('path', {class: 'path front', 'stroke-width': 1.5, d: stairs([...front.map(at), [box.right, at(front.at(-1))[1]]])}))
    parts.push(dots(front.map(at), 9, 'front'))
  }
  for (const c of tests) {
    const cx = x.at(c.params), [from, to] = c.test.interval ?? [c.test.mean, c.test.mean]
    parts.push(svg('path', {class: 'path confirmed', 'stroke-width': 2, d: `M${cx} ${y.at(from)}V${y.at(to)}M${cx - 4} ${y.at(from)}h8M${cx - 4} ${y.at(to)}h8`}),
      svg('rect', {class: 'fill confirmed', x: cx - 3.5, y: y.at(c.test.mean) - 3.5, width: 7, height: 7}))
  }
  if (s.recommended !== null) {
    const [cx, cy] = at(s.recommended)
    parts.push(svg('circle', {class: 'path front', cx, cy, r: 9, 'stroke-width': 1.5}),
      svg('text', {x: cx + (cx > box.right - 80 ? -8 : 8), y: cy + 26, class: 'strong', 'text-anchor': cx > box.right - 80 ? 'end' : 'start'}, `trial ${s.recommended}`))
  }
  const target = (i, stop) => ({x: at(i)[0], y: at(i)[1], text: s.describe(i), trial: i, stop})
  const targets = front.map(i => target(i, true))
  for (const i of [...complete, ...pruned]) if (!s.onFront.has(i)) {
    const [px, py] = at(i)
    targets.push({x: px, y: py, trial: i, get text() { return s.describe(i) }})
  }
  return {height: 380, parts, targets, summary: `Score against parameters: ${complete.length} complete trials, ${front.length} on the front. Arrow keys go along the front.`}
}

function drawConfirmed(s, width) {
  const rows = s.confirmed, height = 60 + 26 * rows.length
  const box = {left: Math.min(230, width * 0.4), right: width - 12, top: 22, bottom: height - 36}
  const [low, high] = extent(rows.flatMap(c => [...c.scores, ...(c.test.interval ?? [])]))
  const x = linear(low, high, box.left, box.right)
  const parts = axes(x, null, box, {x: `${s.metric} on test`})
  const targets = rows.map((c, i) => {
    const cy = box.top + 13 + 26 * i, name = c.trial === null ? c.plan : `trial ${c.trial}`
    parts.push(svg('text', {x: box.left - 8, y: cy + 4, 'text-anchor': 'end', class: 'label'}, `${name.slice(0, 22)} · ${brief(c.params)}`))
    if (c.test.interval) parts.push(svg('path', {class: 'path confirmed', 'stroke-width': 2, d: `M${x.at(c.test.interval[0])} ${cy}H${x.at(c.test.interval[1])}`}))
    parts.push(dots(c.scores.map(v => [x.at(v), cy]), 5, 'complete faint'), svg('rect', {class: 'fill confirmed', x: x.at(c.test.mean) - 4, y: cy - 4, width: 8, height: 8}))
    return {x: x.at(c.test.mean), y: cy, trial: c.trial ?? undefined, stop: true, text: `${name}\n${thousands(c.params)} parameters\non test ${spread(c.test)}\n${c.plan}`}
  })
  return {height, parts, targets, summary: `Test scores of ${rows.length} confirmed plans`}
}

function drawGrowth(studies, growths, by, width) {
  const box = frame(width, 320)
  const [, last] = extent(growths.flatMap(g => g[by])), [low, high] = extent(growths.flatMap(g => g.hypervolume))
  const x = linear(0, last, box.left, box.right), y = linear(Math.min(low, high * 0.5), high, box.bottom, box.top)
  const parts = axes(x, y, box, {x: by === 'trials' ? 'trials with an outcome' : 'seconds of training, summed over trials', y: 'hypervolume'})
  const targets = []
  growths.forEach((g, k) => {
    const points = g[by].map((v, i) => [x.at(v), y.at(g.hypervolume[i])])
    if (points.length) parts.push(svg('path', {class: `path s${k % 6}`, 'stroke-width': 2, d: stairs(points)}))
    points.forEach(([px, py], i) => targets.push({x: px, y: py, stop: true,
      text: `${studies[k].study}\n${score(g.hypervolume[i])} after ${g.trials[i]} trials, ${duration(g.seconds[i])} of training`}))
  })
  return {height: 320, parts, targets, summary: `Hypervolume of ${growths.map((g, k) => `${studies[k].study}: ${score(g.hypervolume.at(-1) ?? 0)}`).join(', ')}`}
}

function drawMap(s, width) {
  const front = s.front, rows = s.places(front), h = 18, height = 60 + h * rows.length
  const left = 96, w = (width - left - 12) / Math.max(front.length, 1), parts = [], targets = []
  const top = new Map()
  for (const r of rows) for (const i of front) top.set(r.method, Math.max(top.get(r.method) ?? 1, s.size(i, r.method, r.layer)))
  rows.forEach((r, k) => {
    const y = 20 + h * k
    parts.push(svg('text', {x: left - 8, y: y + 13, 'text-anchor': 'end', class: 'label'}, r.name))
    front.forEach((i, c) => {
      const size = s.size(i, r.method, r.layer), x = left + w * c
      targets.push({x, y, w, h, trial: i, text: `${r.name} ${size || 'none'}\n${s.describe(i)}`, stop: k === 0})
      if (!size) return
      const share = Math.log(1 + size) / Math.log(1 + top.get(r.method))
      parts.push(svg('rect', {x: x + 0.5, y: y + 0.5, width: Math.max(w - 1, 0.5), height: h - 1, class: 'fill complete', 'fill-opacity': (0.12 + 0.88 * share).toFixed(2)}))
    })
  })
  const every = Math.ceil(44 / w)
  front.forEach((i, c) => {
    if (c % every === 0) parts.push(svg('text', {x: left + w * (c + 0.5), y: 24 + h * rows.length + 10, 'text-anchor': 'middle'}, brief(s.trials.params[i])))
  })
  parts.push(svg('text', {x: width - 12, y: height - 6, 'text-anchor': 'end', class: 'label'}, 'parameters of each plan of the front'))
  return {height, parts, targets, summary: `Modules by layer and method of the ${front.length} plans of the front`}
}

function drawCurves(s, state, width) {
  const box = frame(width, 320), t = s.trials
  const latest = s.numbers(i => t.curve[i].length > 0 && state.shown(i)).slice(-100)
  const drawn = [...new Set([...latest, ...s.front.filter(i => t.curve[i].length > 0 && state.shown(i))])]
  const values = drawn.flatMap(i => t.curve[i].filter((_, k) => k % 2))
  const [low, high] = extent(values)
  const x = linear(0, 1, box.left, box.right), y = linear(low, high, box.bottom, box.top)
  const parts = axes(x, y, box, {x: 'share of the budget of a trial', y: `${s.metric} on dev`}), targets = []
  const pathOf = i => { const out = []; for (let k = 0; k < t.curve[i].length; k += 2) out.push([x.at(t.curve[i][k]), y.at(t.curve[i][k + 1])]); return out }
  for (const i of drawn.sort((a, b) => s.onFront.has(a) - s.onFront.has(b))) {
    const points = pathOf(i), name = s.onFront.has(i) ? 'front' : t.state[i]
    const d = points.length > 1 ? line(points) : `M${points[0][0] - 3} ${points[0][1]}h6`
    parts.push(svg('path', {class: `path ${name}${s.onFront.has(i) ? '' : ' none'}`, 'stroke-width': s.onFront.has(i) ? 1.5 : 1, d}))
    const [px, py] = points.at(-1)
    targets.push({x: px, y: py, path: d, trial: i, stop: s.onFront.has(i), get text() { return s.describe(i) }})
    for (const [qx, qy] of points.slice(0, -1)) targets.push({x: qx, y: qy, path: d, trial: i, get text() { return s.describe(i) }})
  }
  return {height: 320, parts, targets, summary: `Learning curves of ${drawn.length} trials`}
}

function drawEffects(s, width) {
  const name = e => [e.layers ? `L${ranges(e.layers)}` : '', e.method].filter(Boolean).join(' ')
  const whole = s.effects.filter(e => !e.layers || !e.method)
  const single = s.effects.filter(e => e.layers && e.method).sort((a, b) => Math.abs(b.mean) / (b.sd || 1) - Math.abs(a.mean) / (a.sd || 1)).slice(0, 12)
  const rows = [...whole.filter(e => !e.layers), ...whole.filter(e => e.layers), ...single]
  const h = 20, height = 62 + h * rows.length, box = {left: 110, right: width - 12, top: 22, bottom: height - 36}
  const [low, high] = extent([0, ...rows.flatMap(e => [e.mean - 2 * e.sd, e.mean + 2 * e.sd])])
  const x = linear(low, high, box.left, box.right)
  const parts = axes(x, null, box, {x: `what ${s.metric} loses on average without them`}), targets = []
  parts.push(svg('path', {class: 'cross', d: `M${x.at(0)} ${box.top}V${box.bottom}`}))
  rows.forEach((e, i) => {
    const cy = box.top + h * (i + 0.5), sure = Math.abs(e.mean) > 2 * e.sd
    parts.push(svg('text', {x: box.left - 8, y: cy + 4, 'text-anchor': 'end', class: 'label'}, name(e)),
      svg('path', {class: `path ${sure ? 'front' : 'pruned'}`, 'stroke-width': 2, d: `M${x.at(e.mean - 2 * e.sd)} ${cy}H${x.at(e.mean + 2 * e.sd)}`}),
      dots([[x.at(e.mean), cy]], 8, sure ? 'front' : 'pruned'))
    targets.push({x: x.at(e.mean), y: cy, stop: true, text: `${name(e)}\n${signed(e.mean)} ± ${(2 * e.sd).toFixed(4)} (two standard deviations)\nmean over ${e.plans} of the best plans that have such a module`})
  })
  return {height, parts, targets, summary: `What mattered: ${rows.slice(0, s.methods.length).map(e => `${name(e)} ${signed(e.mean)}`).join(', ')}`}
}

function drawParallel(s, state, width) {
  const t = s.trials, box = {left: 40, right: width - 40, top: 40, bottom: 290}
  const best = s.scored(state.shown).sort((a, b) => t.score[b] - t.score[a]).slice(0, 300)
  const total = (i, method) => { let sum = 0; const m = t.modules[i]; for (let k = 0; k < m.length; k += 2) if (s.modules[m[k]].method === method) sum += s.modules[m[k]].size; return sum }
  const used = i => new Set(t.modules[i].filter((_, k) => k % 2)).size
  const schedules = [...new Set(best.map(i => t.schedule[i]))]
  const wanted = [
    {name: 'parameters', of: i => t.params[i], log: true}, {name: 'layers with modules', of: used},
    ...s.methods.map(m => ({name: `Σ ${m}`, of: i => total(i, m)})),
    {name: 'learning rate', of: i => t.learning_rate[i], log: true, exact: true}, {name: 'schedule', of: i => schedules.indexOf(t.schedule[i]), names: schedules},
    {name: s.metric, of: i => t.score[i]}]
  const shown = wanted.map(axis => ({...axis, values: best.map(axis.of)})).filter(axis => new Set(axis.values).size > 1)
  const parts = [], targets = []
  shown.forEach((axis, k) => {
    axis.x = box.left + (box.right - box.left) * (shown.length > 1 ? k / (shown.length - 1) : 0.5)
    const [low, high] = extent(axis.values)
    axis.scale = axis.log ? sizes(axis.values, box.bottom, box.top, true) : linear(low, high, box.bottom, box.top)
    if (axis.exact) axis.scale.ticks = [...new Set(axis.values)].map(v => [axis.scale.at(v), String(v)])
    if (axis.names) axis.scale.ticks = axis.names.map((n, i) => [axis.scale.at(i), n])
  })
  const [low, high] = extent(best.map(i => t.score[i]))
  best.toReversed().forEach(i => {
    const k = best.indexOf(i), points = shown.map(axis => [axis.x, axis.scale.at(axis.values[k])])
    const d = line(points), front = s.onFront.has(i)
    parts.push(svg('path', {class: `path ${front ? 'front' : 'complete'}`, 'stroke-width': front ? 1.5 : 1, 'stroke-opacity': front ? 0.95 : (0.08 + 0.4 * (t.score[i] - low) / (high - low || 1)).toFixed(2), d}))
    for (const [x, y] of points) targets.push({x, y, path: d, trial: i, get text() { return s.describe(i) }})
  })
  shown.forEach((axis, k) => {
    parts.push(svg('path', {class: 'axis', d: `M${axis.x} ${box.top}V${box.bottom}`}),
      svg('text', {x: axis.x, y: k % 2 ? 14 : 28, 'text-anchor': 'middle', class: 'strong'}, axis.name))
    for (const [at, text] of axis.scale.ticks) parts.push(svg('text', {x: axis.x + 4, y: at + 4}, text))
  })
  return {height: 310, parts, targets, summary: `Parallel coordinates of the best ${best.length} trials over ${shown.map(a => a.name).join(', ')}`}
}

function drawTimeline(s, width) {
  const t = s.trials, ran = s.numbers(i => t.started[i] !== null && t.lane[i] !== '')
  const lanes = [...new Set(ran.map(i => t.lane[i]))], now = Math.max(...ran.map(i => t.finished[i] ?? t.started[i]), 0)
  const first = Math.min(...ran.map(i => t.started[i]))
  // Trials of one process that run side by side stand below each other.
  const rows = [], rowOf = new Map()
  for (const lane of lanes) {
    const own = []
    for (const i of ran.filter(i => t.lane[i] === lane).sort((a, b) => t.started[a] - t.started[b])) {
      let row = own.find(r => r.until <= t.started[i])
      if (!row) { row = {lane, until: 0, name: own.length ? '' : lane}; own.push(row) }
      row.until = t.finished[i] ?? Infinity
      rowOf.set(i, row)
    }
    rows.push(...own)
  }
  const h = 18, height = 60 + h * rows.length, box = {left: Math.min(150, width * 0.3), right: width - 12, top: 22, bottom: 22 + h * rows.length}
  const x = linear(0, (now - first) / 1000, box.left, box.right)
  const parts = axes(x, null, box, {x: 'seconds since the first trial'}), targets = []
  rows.forEach((r, k) => { r.y = box.top + h * k; if (r.name) parts.push(svg('text', {x: box.left - 8, y: r.y + 13, 'text-anchor': 'end', class: 'label'}, r.name.slice(0, 22))) })
  const bars = {}
  for (const i of ran) {
    const from = x.at((t.started[i] - first) / 1000), to = x.at(((t.finished[i] ?? now) - first) / 1000), y = rowOf.get(i).y
    const name = t.finished[i] === null ? 'running' : s.onFront.has(i) ? 'front' : t.state[i]
    ;(bars[name] ??= []).push(`M${from.toFixed(1)} ${y + 2}h${Math.max(to - from - 0.5, 0.5).toFixed(1)}v${h - 4}h${-Math.max(to - from - 0.5, 0.5).toFixed(1)}z`)
    targets.push({x: from, y, w: Math.max(to - from, 1), h, trial: i, get text() { return `${s.describe(i)}\n${t.lane[i]}${t.seconds[i] === null ? '' : `, ${duration(t.seconds[i])}`}` }})
  }
  for (const [name, d] of Object.entries(bars)) parts.push(svg('path', {class: `fill ${name}`, 'fill-opacity': 0.75, d: d.join('')}))
  return {height, parts, targets, summary: `${ran.length} trials on ${lanes.length} processes`}
}

function drawFronts(studies, state, width) {
  const box = frame(width, 340), all = studies.flatMap(s => s.front.map(i => [s.trials.params[i], s.trials.score[i]]))
  const x = sizes(all.map(p => p[0]), box.left, box.right, state.log), [low, high] = extent(all.map(p => p[1]))
  const y = linear(low, high, box.bottom, box.top), metrics = [...new Set(studies.map(s => s.metric))]
  const parts = axes(x, y, box, {x: 'trainable parameters, without the head', y: metrics.join(', ')}), targets = []
  studies.forEach((s, k) => {
    const points = s.front.map(i => [x.at(s.trials.params[i]), y.at(s.trials.score[i])])
    if (!points.length) return
    parts.push(svg('path', {class: `path s${k % 6}`, 'stroke-width': 1.5, d: stairs([...points, [box.right, points.at(-1)[1]]])}), dots(points, 7, `s${k % 6}`))
    points.forEach(([px, py], i) => targets.push({x: px, y: py, stop: true, text: `${s.study}\n${s.describe(s.front[i])}`}))
  })
  return {height: 340, parts, targets, summary: `Fronts of ${studies.map(s => s.study).join(', ')}`}
}
