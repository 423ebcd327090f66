'use strict'
// The page: what it shows follows from the studies, of which one is chosen, and from its state.

const byId = id => document.getElementById(id)
const state = {log: true, shown: Object.assign(() => true, {hint: ''}), by: 'trials', chosen: 0}
let studies = [],
  scale = null,
  made = '',
  live = false

const figures = {
  front: new Figure('front', 'Score and size', {wide: true}),
  confirmed: new Figure('confirmed', 'Confirmed on test'),
  growth: new Figure('growth', 'Hypervolume'),
  map: new Figure('map', 'Modules along the front', {wide: true}),
  effects: new Figure('effects', 'What mattered'),
  curves: new Figure('curves', 'Learning curves'),
  parallel: new Figure('parallel', 'Parallel coordinates', {wide: true}),
  timeline: new Figure('timeline', 'Who ran what', {wide: true}),
  fronts: new Figure('fronts', 'All fronts'),
  growths: new Figure('growths', 'All hypervolumes on one scale'),
}
const table = new Table(state),
  comparison = new Comparison(),
  running = html('section', {id: 'running', class: 'wide', 'aria-label': 'Running trials'})
const facts = html('section', {id: 'facts', class: 'wide', 'aria-label': 'The study'})
const search = html('input', {
  type: 'search',
  id: 'filter',
  placeholder: 'lora score>0.8 params<100k front',
  oninput: () => {
    filterBy(search.value)
    draw()
  },
})
const logs = html('input', {
  type: 'checkbox',
  checked: true,
  onchange: () => {
    state.log = logs.checked
    draw()
  },
})
const pick = trial => comparison.take(trial)
const filterBy = text => {
  state.shown = filter(text, studies[state.chosen])
}

figures.front.caption.append(
  html('label', {}, logs, ' logarithmic sizes'),
  html('label', {}, 'show only ', search),
  key('front', 'front'),
  key('complete', 'complete'),
  key('pruned', 'pruned'),
  key('confirmed', 'mean on test, 95 %')
)
figures.growth.caption.append(
  html(
    'label',
    {},
    'over ',
    html(
      'select',
      {
        onchange: e => {
          state.by = e.target.value
          draw()
        },
      },
      html('option', {value: 'trials'}, 'trials'),
      html('option', {value: 'seconds'}, 'training time')
    )
  )
)
figures.curves.caption.append(key('front', 'front'), key('complete', `others, the latest ${drawnCurves} at most`))
figures.parallel.note.textContent =
  `The best complete trials, ${drawnPlans} at most, and of their coordinates those that differ. ` +
  'Σ is the sum of a method’s sizes over the layers.'
figures.effects.note.textContent =
  'By the process that the search fits: what the best plans would lose if these modules were left out, with two ' +
  'standard deviations. Grey is not told from nothing.'
byId('main').append(
  figures.fronts.box,
  figures.growths.box,
  facts,
  running,
  figures.front.box,
  figures.confirmed.box,
  figures.growth.box,
  comparison.box,
  figures.effects.box,
  figures.curves.box,
  figures.map.box,
  figures.parallel.box,
  figures.timeline.box,
  table.box
)

function show(name, wanted, content) {
  figures[name].box.hidden = !wanted
  if (wanted) figures[name].show(content)
}

function draw() {
  const many = studies.length > 1,
    s = studies[state.chosen]
  const metrics = Map.groupBy(studies, s => s.metric)
  figures.fronts.note.textContent = [
    metrics.size > 1 ? 'Scores of different metrics cannot be compared: each metric has an axis of its own.' : '',
    many && !scale ? 'The studies differ in metric or model: their hypervolumes are not set side by side.' : '',
  ].join(' ')
  show('fronts', many, width => drawFronts(studies, metrics, state, width))
  show('growths', many && scale, width => drawGrowth(studies, scale.growth, state.by, width))
  byId('studies').hidden = !many
  byId('studies').replaceChildren(
    ...studies.map((other, k) =>
      html(
        'button',
        {
          type: 'button',
          'aria-current': k === state.chosen ? 'true' : null,
          onclick: () => {
            state.chosen = k
            filterBy(search.value)
            draw()
          },
        },
        html('span', {class: `key s${k % 6}`, 'aria-hidden': 'true'}),
        other.study
      )
    )
  )
  document.querySelector('h1').textContent = many ? `${studies.length} studies` : s ? s.study : 'peftsearch'
  document.title = s ? `${s.study} · peftsearch` : 'peftsearch'
  byId('status').textContent = live ? `live${live === true ? '' : `: ${live}`}` : made && `made ${made}`
  byId('main').hidden = !s
  if (!s) return
  drawFacts(s)
  drawRunning(s)
  figures.front.note.textContent = state.shown.hint
  show('front', true, width => drawFront(s, state, width))
  show('confirmed', s.confirmed.length > 0, width => drawConfirmed(s, width))
  show('growth', s.growth.trials.length > 0, width => drawGrowth([s], [s.growth], state.by, width))
  show('map', s.front.length > 0, width => drawMap(s, width))
  show('effects', s.effects !== null, width => drawEffects(s, width))
  show(
    'curves',
    s.trials.curve.some(c => c.length > 0),
    width => drawCurves(s, state, width)
  )
  show('parallel', s.scored(state.shown).length > 1, width => drawParallel(s, state, width))
  show(
    'timeline',
    s.trials.lane.some(l => l !== ''),
    width => drawTimeline(s, width)
  )
  comparison.show(s)
  table.show(s)
}

function drawFacts(s) {
  const best = s.front.at(-1),
    c = s.tally,
    total = Math.max(s.budget, s.count)
  const facts_ = [
    ['trials', `${c.complete} complete, ${c.pruned} pruned, ${c.failed} failed, ${c.running} running of ${total}`],
    [
      'model',
      `${s.geometry.architecture}, ${s.geometry.layers} layers, ${thousands(s.geometry.backbone_params)} parameters`,
    ],
    ['hypervolume', score(s.hypervolume)],
    ['front', `${s.front.length} plans`],
  ]
  if (best !== undefined)
    facts_.push([
      `best ${s.metric}`,
      `${s.uncertain(best)} with ${brief(s.trials.params[best])} (trial ${best})`,
    ])
  if (s.recommended !== null)
    facts_.push([
      'recommended',
      `trial ${s.recommended}: ${s.metric} ${s.uncertain(s.recommended)} with ` +
        `${brief(s.trials.params[s.recommended])}, ${s.plan(s.recommended)}`,
    ])
  facts.replaceChildren(
    html('h2', {}, s.study),
    html(
      'dl',
      {},
      facts_.map(([name, value]) => html('div', {}, html('dt', {}, name), html('dd', {}, value)))
    )
  )
}

function drawRunning(s) {
  running.hidden = s.running.length === 0
  running.replaceChildren(html('h2', {}, 'Running'), region('Running trials', runningTable(s)))
}

// take takes a document: of a report all that there is, of a live page what is new.
function take(views) {
  made = new Date(views.made).toLocaleString()
  scale = views.scale
  for (const view of views.studies) {
    const known = studies.find(s => s.study === view.study && s.created === view.created)
    if (known) known.merge(view)
    else studies.push(new Study(view))
  }
  if (state.chosen >= studies.length) state.chosen = 0
  if (studies.length) filterBy(search.value)
  Figure.lazy = studies.reduce((sum, s) => sum + s.count, 0) > 2000
  keepFocus(draw)
}

// keepFocus gives the focus to what stands, after a change, where the element stood that had it.
function keepFocus(change) {
  const focused = document.activeElement,
    place = focused?.closest('[id]')
  const all = () => [...place.querySelectorAll('a, button, input, select, summary, [tabindex]')]
  const at = place ? all().indexOf(focused) : -1
  change()
  if (at >= 0 && !focused.isConnected) all()[at]?.focus({preventScroll: true})
}

function follow() {
  live = 'connecting'
  const source = new EventSource('events')
  source.onmessage = e => {
    live = true
    take(JSON.parse(e.data))
  }
  source.onopen = () => {
    studies = []
  } // the first message has everything
  source.addEventListener('trouble', e => {
    live = JSON.parse(e.data)
    draw()
  })
  source.onerror = () => {
    live = 'the connection is broken; trying again'
    draw()
  }
}

const data = byId('data').textContent
if (data) take(JSON.parse(data))
else follow()
document.body.dataset.ready = 'yes'
