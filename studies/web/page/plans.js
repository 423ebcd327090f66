'use strict'
// The figures of plans and of what ran them, made as those of scores.

function drawMap(s, width) {
  const front = s.front,
    rows = s.places(front),
    h = 18,
    height = 60 + h * rows.length
  const left = 96,
    w = (width - left - 12) / Math.max(front.length, 1),
    parts = [],
    targets = []
  const top = new Map()
  for (const r of rows)
    for (const i of front) top.set(r.method, Math.max(top.get(r.method) ?? 1, s.size(i, r.method, r.layer)))
  rows.forEach((r, k) => {
    const y = 20 + h * k
    parts.push(svg('text', {x: left - 8, y: y + 13, 'text-anchor': 'end', class: 'label'}, r.name))
    front.forEach((i, c) => {
      const size = s.size(i, r.method, r.layer),
        x = left + w * c
      targets.push({x, y, w, h, trial: i, text: `${r.name} ${size || 'none'}\n${s.describe(i)}`, stop: k === 0})
      if (!size) return
      const share = Math.log(1 + size) / Math.log(1 + top.get(r.method))
      parts.push(
        svg('rect', {
          x: x + 0.5,
          y: y + 0.5,
          width: Math.max(w - 1, 0.5),
          height: h - 1,
          class: 'fill complete',
          'fill-opacity': (0.12 + 0.88 * share).toFixed(2),
        })
      )
    })
  })
  const every = Math.ceil(44 / w)
  front.forEach((i, c) => {
    if (c % every === 0)
      parts.push(
        svg(
          'text',
          {x: left + w * (c + 0.5), y: 24 + h * rows.length + 10, 'text-anchor': 'middle'},
          brief(s.trials.params[i])
        )
      )
  })
  parts.push(
    svg(
      'text',
      {x: width - 12, y: height - 6, 'text-anchor': 'end', class: 'label'},
      'parameters of each plan of the front'
    )
  )
  return {height, parts, targets, summary: `Modules by layer and method of the ${front.length} plans of the front`}
}

function drawEffects(s, width) {
  const name = e => [e.layers ? `L${ranges(e.layers)}` : '', e.method].filter(Boolean).join(' ')
  const whole = s.effects.filter(e => !e.layers || !e.method)
  const single = s.effects
    .filter(e => e.layers && e.method)
    .sort((a, b) => Math.abs(b.mean) / (b.sd || 1) - Math.abs(a.mean) / (a.sd || 1))
    .slice(0, 12)
  const rows = [...whole.filter(e => !e.layers), ...whole.filter(e => e.layers), ...single]
  const h = 20,
    height = 62 + h * rows.length,
    box = {left: 110, right: width - 12, top: 22, bottom: height - 36}
  const [low, high] = extent([0, ...rows.flatMap(e => [e.mean - 2 * e.sd, e.mean + 2 * e.sd])])
  const x = linear(low, high, box.left, box.right)
  const parts = axes(x, null, box, {x: `what ${s.metric} loses on average without them`}),
    targets = []
  parts.push(svg('path', {class: 'cross', d: `M${x.at(0)} ${box.top}V${box.bottom}`}))
  rows.forEach((e, i) => {
    const cy = box.top + h * (i + 0.5),
      sure = Math.abs(e.mean) > 2 * e.sd
    parts.push(
      svg('text', {x: box.left - 8, y: cy + 4, 'text-anchor': 'end', class: 'label'}, name(e)),
      svg('path', {
        class: `path ${sure ? 'front' : 'pruned'}`,
        'stroke-width': 2,
        d: `M${x.at(e.mean - 2 * e.sd)} ${cy}H${x.at(e.mean + 2 * e.sd)}`,
      }),
      dots([[x.at(e.mean), cy]], 8, sure ? 'front' : 'pruned')
    )
    targets.push({
      x: x.at(e.mean),
      y: cy,
      stop: true,
      text:
        `${name(e)}\n${signed(e.mean)} ± ${(2 * e.sd).toFixed(4)} (two standard deviations)\n` +
        `mean over ${e.plans} of the best plans that have such a module`,
    })
  })
  return {
    height,
    parts,
    targets,
    summary: `What mattered: ${rows
      .slice(0, s.methods.length)
      .map(e => `${name(e)} ${signed(e.mean)}`)
      .join(', ')}`,
  }
}

const drawnPlans = 300

function drawParallel(s, state, width) {
  const t = s.trials,
    box = {left: 40, right: width - 40, top: 40, bottom: 290}
  const best = s
    .scored(state.shown)
    .sort((a, b) => t.score[b] - t.score[a])
    .slice(0, drawnPlans)
  const total = (i, method) => {
    let sum = 0
    const m = t.modules[i]
    for (let k = 0; k < m.length; k += 2) if (s.modules[m[k]].method === method) sum += s.modules[m[k]].size
    return sum
  }
  const used = i => new Set(t.modules[i].filter((_, k) => k % 2)).size
  const schedules = [...new Set(best.map(i => t.schedule[i]))]
  const wanted = [
    {name: 'parameters', of: i => t.params[i], log: true},
    {name: 'layers with modules', of: used},
    ...s.methods.map(m => ({name: `Σ ${m}`, of: i => total(i, m)})),
    {name: 'learning rate', of: i => t.learning_rate[i], log: true, exact: true},
    {name: 'schedule', of: i => schedules.indexOf(t.schedule[i]), names: schedules},
    {name: s.metric, of: i => t.score[i]},
  ]
  const shown = wanted
    .map(axis => ({...axis, values: best.map(axis.of)}))
    .filter(axis => new Set(axis.values).size > 1)
  // Axes stand side by side, or lie one below the other where that is too narrow for their names.
  const lying = width < 90 * shown.length,
    height = lying ? 54 * shown.length + 20 : 310
  const parts = [],
    targets = []
  shown.forEach((axis, k) => {
    const [from, to] = lying ? [12, width - 12] : [box.bottom, box.top]
    const share = shown.length > 1 ? k / (shown.length - 1) : 0.5
    axis.at = lying ? 24 + 54 * k : box.left + (box.right - box.left) * share
    const [low, high] = extent(axis.values)
    axis.scale = axis.log ? sizes(axis.values, from, to, true) : linear(low, high, from, to)
    if (axis.exact) axis.scale.ticks = [...new Set(axis.values)].map(v => [axis.scale.at(v), String(v)])
    if (axis.names) axis.scale.ticks = axis.names.map((n, i) => [axis.scale.at(i), n])
    axis.place = v => (lying ? [axis.scale.at(v), axis.at] : [axis.at, axis.scale.at(v)])
  })
  const [low, high] = extent(best.map(i => t.score[i]))
  best.toReversed().forEach(i => {
    const k = best.indexOf(i),
      points = shown.map(axis => axis.place(axis.values[k]))
    const d = line(points),
      front = s.onFront.has(i)
    parts.push(
      svg('path', {
        class: `path ${front ? 'front' : 'complete'}`,
        'stroke-width': front ? 1.5 : 1,
        'stroke-opacity': front ? 0.95 : (0.2 + (0.4 * (t.score[i] - low)) / (high - low || 1)).toFixed(2),
        d,
      })
    )
    for (const [x, y] of points)
      targets.push({
        x,
        y,
        path: d,
        trial: i,
        get text() {
          return s.describe(i)
        },
      })
  })
  shown.forEach((axis, k) => {
    if (lying) {
      parts.push(
        svg('path', {class: 'axis', d: `M12 ${axis.at}H${width - 12}`}),
        svg('text', {x: 12, y: axis.at - 8, class: 'strong halo'}, axis.name)
      )
      for (const [x, text] of axis.scale.ticks)
        parts.push(svg('text', {x, y: axis.at + 14, 'text-anchor': 'middle', class: 'halo'}, text))
      return
    }
    parts.push(
      svg('path', {class: 'axis', d: `M${axis.at} ${box.top}V${box.bottom}`}),
      svg('text', {x: axis.at, y: k % 2 ? 14 : 28, 'text-anchor': 'middle', class: 'strong'}, axis.name)
    )
    for (const [y, text] of axis.scale.ticks)
      parts.push(svg('text', {x: axis.at + 4, y: y + 4, class: 'halo'}, text))
  })
  return {
    height,
    parts,
    targets,
    summary: `Parallel coordinates of the best ${best.length} trials over ${shown.map(a => a.name).join(', ')}`,
  }
}

function drawTimeline(s, width) {
  const t = s.trials,
    ran = s.numbers(i => t.started[i] !== null && t.lane[i] !== '')
  const lanes = [...new Set(ran.map(i => t.lane[i]))],
    now = Math.max(...ran.map(i => t.finished[i] ?? t.started[i]), 0)
  const first = Math.min(...ran.map(i => t.started[i]))
  // Trials of one process that run side by side stand below each other.
  const rows = [],
    rowOf = new Map()
  for (const lane of lanes) {
    const own = []
    for (const i of ran.filter(i => t.lane[i] === lane).sort((a, b) => t.started[a] - t.started[b])) {
      let row = own.find(r => r.until <= t.started[i])
      if (!row) {
        row = {lane, until: 0, name: own.length ? '' : lane}
        own.push(row)
      }
      row.until = t.finished[i] ?? Infinity
      rowOf.set(i, row)
    }
    rows.push(...own)
  }
  const h = 18,
    height = 60 + h * rows.length,
    box = {left: Math.min(150, width * 0.3), right: width - 12, top: 22, bottom: 22 + h * rows.length}
  const x = linear(0, (now - first) / 1000, box.left, box.right)
  const parts = axes(x, null, box, {x: 'seconds since the first trial'}),
    targets = []
  rows.forEach((r, k) => {
    r.y = box.top + h * k
    if (r.name)
      parts.push(
        svg('text', {x: box.left - 8, y: r.y + 13, 'text-anchor': 'end', class: 'label'}, r.name.slice(0, 22))
      )
  })
  const bars = {}
  for (const i of ran) {
    const from = x.at((t.started[i] - first) / 1000),
      to = x.at(((t.finished[i] ?? now) - first) / 1000),
      y = rowOf.get(i).y
    const name = t.finished[i] === null ? 'running' : s.onFront.has(i) ? 'front' : t.state[i]
    const long = Math.max(to - from - 0.5, 0.5).toFixed(1)
    ;(bars[name] ??= []).push(`M${from.toFixed(1)} ${y + 2}h${long}v${h - 4}h-${long}z`)
    targets.push({
      x: from,
      y,
      w: Math.max(to - from, 1),
      h,
      trial: i,
      get text() {
        return `${s.describe(i)}\n${t.lane[i]}${t.seconds[i] === null ? '' : `, ${duration(t.seconds[i])}`}`
      },
    })
  }
  for (const [name, d] of Object.entries(bars))
    parts.push(svg('path', {class: `fill ${name}`, 'fill-opacity': 0.75, d: d.join('')}))
  return {height, parts, targets, summary: `${ran.length} trials on ${lanes.length} processes`}
}
