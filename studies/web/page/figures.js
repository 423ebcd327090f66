'use strict'
// The figures of scores. Each is a function of studies, of the page's state (which trials are shown, whether sizes are
// on a logarithmic axis) and of a width.

const key = (name, text) =>
  html(
    'span',
    {class: `legend ${name}`},
    html('span', {class: 'key', 'aria-hidden': 'true'}),
    html('span', {class: 'legend'}, text)
  )

function drawFront(s, state, width) {
  const box = frame(width, 380),
    t = s.trials
  const complete = s.scored(state.shown),
    pruned = s.numbers(i => t.state[i] === 'pruned' && state.shown(i))
  const front = s.front,
    known = [...complete, ...pruned, ...front]
  const x = sizes(
    known.map(i => t.params[i]).concat(s.confirmed.filter(c => c.trial !== null).map(c => c.params)),
    box.left,
    box.right,
    state.log
  )
  const tests = s.confirmed.filter(c => c.trial !== null)
  const [low, high] = reach(
    [...known.map(i => t.score[i]), ...tests.map(c => c.test.mean)],
    tests.flatMap(c => c.test.interval ?? [])
  )
  const y = linear(low, high, box.bottom, box.top)
  const at = i => [x.at(t.params[i]), y.at(t.score[i])]
  const parts = axes(x, y, box, {x: 'trainable parameters, without the head', y: s.metric})
  parts.push(
    dots(pruned.map(at), 4, 'pruned'),
    dots(complete.filter(i => !s.onFront.has(i)).map(at), 5, 'complete')
  )
  if (front.length) {
    parts.push(
      svg('path', {
        class: 'path front',
        'stroke-width': 1.5,
        d: stairs([...front.map(at), [box.right, at(front.at(-1))[1]]]),
      })
    )
    parts.push(dots(front.map(at), 9, 'front'))
  }
  for (const c of tests) {
    const cx = x.at(c.params),
      ends = c.test.interval ?? [c.test.mean, c.test.mean],
      [from, to] = ends.map(v => y.at(between(low, v, high)))
    const caps = ends.map(v => (v < low || v > high ? '' : `M${cx - 4} ${y.at(v)}h8`)) // what goes on has none
    parts.push(
      svg('path', {class: 'path confirmed', 'stroke-width': 2, d: `M${cx} ${from}V${to}${caps.join('')}`}),
      svg('rect', {class: 'fill confirmed', x: cx - 3.5, y: y.at(c.test.mean) - 3.5, width: 7, height: 7})
    )
  }
  if (s.recommended !== null) {
    const [cx, cy] = at(s.recommended)
    const last = cx > box.right - 80
    parts.push(
      svg('circle', {class: 'path front', cx, cy, r: 9, 'stroke-width': 1.5}),
      svg(
        'text',
        {x: cx + (last ? -8 : 8), y: cy + 26, class: 'strong halo', 'text-anchor': last ? 'end' : 'start'},
        `trial ${s.recommended}`
      )
    )
  }
  const target = (i, stop) => ({x: at(i)[0], y: at(i)[1], text: s.describe(i), trial: i, stop})
  const targets = front.map(i => target(i, true))
  for (const i of [...complete, ...pruned])
    if (!s.onFront.has(i)) {
      const [px, py] = at(i)
      targets.push({
        x: px,
        y: py,
        trial: i,
        get text() {
          return s.describe(i)
        },
      })
    }
  return {
    height: 380,
    parts,
    targets,
    summary:
      `Score against parameters: ${complete.length} complete trials, ${front.length} on the front. ` +
      'Arrow keys go along the front.',
  }
}

function drawConfirmed(s, width) {
  const rows = s.confirmed,
    height = 60 + 26 * rows.length
  const box = {left: Math.min(230, width * 0.4), right: width - 12, top: 22, bottom: height - 36}
  const [low, high] = reach(
    rows.flatMap(c => c.scores),
    rows.flatMap(c => c.test.interval ?? [])
  )
  const x = linear(low, high, box.left, box.right)
  const parts = axes(x, null, box, {x: `${s.metric} on test`})
  const targets = rows.map((c, i) => {
    const cy = box.top + 13 + 26 * i,
      name = c.trial === null ? c.plan : `trial ${c.trial}`
    parts.push(
      svg(
        'text',
        {x: box.left - 8, y: cy + 4, 'text-anchor': 'end', class: 'label'},
        `${name.slice(0, 22)} · ${brief(c.params)}`
      )
    )
    if (c.test.interval) {
      const [from, to] = c.test.interval.map(v => x.at(between(low, v, high)))
      const caps = c.test.interval.map(v => (v < low || v > high ? '' : `M${x.at(v)} ${cy - 4}v8`))
      parts.push(svg('path', {class: 'path confirmed', 'stroke-width': 2, d: `M${from} ${cy}H${to}${caps.join('')}`}))
    }
    parts.push(
      dots(
        c.scores.map(v => [x.at(v), cy]),
        4,
        'complete'
      ),
      svg('rect', {class: 'fill confirmed', x: x.at(c.test.mean) - 4, y: cy - 4, width: 8, height: 8})
    )
    return {
      x: x.at(c.test.mean),
      y: cy,
      trial: c.trial ?? undefined,
      stop: true,
      text: `${name}\n${thousands(c.params)} parameters\non test ${spread(c.test)}\n${c.plan}`,
    }
  })
  return {height, parts, targets, summary: `Test scores of ${rows.length} confirmed plans`}
}

function drawGrowth(studies, growths, by, width) {
  const box = frame(width, 320)
  const [, last] = extent(growths.flatMap(g => g[by])),
    [low, high] = extent(growths.flatMap(g => g.hypervolume))
  const x = linear(0, last, box.left, box.right),
    y = linear(Math.min(low, high * 0.5), high, box.bottom, box.top)
  const parts = axes(x, y, box, {
    x: by === 'trials' ? 'trials with an outcome' : 'seconds of training, summed over trials',
    y: 'hypervolume',
  })
  const targets = []
  growths.forEach((g, k) => {
    const points = g[by].map((v, i) => [x.at(v), y.at(g.hypervolume[i])])
    if (points.length) parts.push(svg('path', {class: `path s${k % 6}`, 'stroke-width': 2, d: stairs(points)}))
    points.forEach(([px, py], i) =>
      targets.push({
        x: px,
        y: py,
        stop: true,
        text:
          `${studies[k].study}\n${score(g.hypervolume[i])} after ${g.trials[i]} trials, ` +
          `${duration(g.seconds[i])} of training`,
      })
    )
  })
  return {
    height: 320,
    parts,
    targets,
    summary: `Hypervolume of ${growths
      .map((g, k) => `${studies[k].study}: ${score(g.hypervolume.at(-1) ?? 0)}`)
      .join(', ')}`,
  }
}

const drawnCurves = 100 // beside those of the front

function drawCurves(s, state, width) {
  const box = frame(width, 320),
    t = s.trials
  const latest = s.numbers(i => t.curve[i].length > 0 && state.shown(i)).slice(-drawnCurves)
  const drawn = [...new Set([...latest, ...s.front.filter(i => t.curve[i].length > 0 && state.shown(i))])]
  const values = drawn.flatMap(i => t.curve[i].filter((_, k) => k % 2))
  const [low, high] = extent(values)
  const x = linear(0, 1, box.left, box.right),
    y = linear(low, high, box.bottom, box.top)
  const parts = axes(x, y, box, {x: 'share of the budget of a trial', y: `${s.metric} on dev`}),
    targets = []
  const pathOf = i => {
    const out = []
    for (let k = 0; k < t.curve[i].length; k += 2) out.push([x.at(t.curve[i][k]), y.at(t.curve[i][k + 1])])
    return out
  }
  for (const i of drawn.sort((a, b) => s.onFront.has(a) - s.onFront.has(b))) {
    const points = pathOf(i),
      name = s.onFront.has(i) ? 'front' : t.state[i]
    const d = points.length > 1 ? line(points) : `M${points[0][0] - 3} ${points[0][1]}h6`
    parts.push(
      svg('path', {
        class: `path ${name}${s.onFront.has(i) ? '' : ' none'}`,
        'stroke-width': s.onFront.has(i) ? 1.5 : 1,
        d,
      })
    )
    const [px, py] = points.at(-1)
    targets.push({
      x: px,
      y: py,
      path: d,
      trial: i,
      stop: s.onFront.has(i),
      get text() {
        return s.describe(i)
      },
    })
    for (const [qx, qy] of points.slice(0, -1))
      targets.push({
        x: qx,
        y: qy,
        path: d,
        trial: i,
        get text() {
          return s.describe(i)
        },
      })
  }
  return {height: 320, parts, targets, summary: `Learning curves of ${drawn.length} trials`}
}

// drawFronts draws the fronts of the studies of each metric on axes of their own, one below the other.
function drawFronts(studies, metrics, state, width) {
  const parts = [],
    targets = [],
    height = 340
  const sizesOf = s => s.front.map(i => s.trials.params[i])
  ;[...metrics].forEach(([metric, group], row) => {
    const box = frame(width, height),
      top = row * height
    const x = sizes(studies.flatMap(sizesOf), box.left, box.right, state.log)
    const [low, high] = extent(group.flatMap(s => s.front.map(i => s.trials.score[i])))
    const y = linear(low, high, box.bottom, box.top)
    const own = axes(x, y, box, {x: 'trainable parameters, without the head', y: metric})
    for (const s of group) {
      const k = studies.indexOf(s) % 6,
        points = s.front.map(i => [x.at(s.trials.params[i]), y.at(s.trials.score[i])])
      if (!points.length) continue
      own.push(
        svg('path', {class: `path s${k}`, 'stroke-width': 1.5, d: stairs([...points, [box.right, points.at(-1)[1]]])}),
        dots(points, 7, `s${k}`)
      )
      points.forEach(([px, py], i) =>
        targets.push({x: px, y: top + py, stop: true, text: `${s.study}\n${s.describe(s.front[i])}`})
      )
    }
    parts.push(svg('g', {transform: `translate(0 ${top})`}, own))
  })
  return {
    height: height * metrics.size,
    parts,
    targets,
    summary: `Fronts of ${studies.map(s => `${s.study} in ${s.metric}`).join(', ')}`,
  }
}
