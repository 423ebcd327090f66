'use strict'
// The table of the trials, that of what runs, and the comparison of two trials. On a narrow screen each row of the
// first two is a card, with the names of its numbers (style.css).

const th = (name, attributes = {}) => html('th', {scope: 'col', ...attributes}, name)
const td = (name, value, kind = null) => html('td', {class: kind, 'data-name': name}, value)
const grid = (heads, rows, attributes = {}) =>
  html('table', attributes, html('thead', {}, html('tr', {}, heads)), html('tbody', {}, rows))
const region = (label, ...children) =>
  html('div', {class: 'scroll', tabindex: '0', role: 'region', 'aria-label': label}, ...children)

const columns = [
  {name: 'trial', of: (s, i) => i, text: (s, i) => String(i)},
  {name: 'state', left: true, of: (s, i) => s.trials.state[i]},
  {name: 'from', left: true, of: (s, i) => s.trials.origin[i]},
  {name: 'parameters', of: (s, i) => s.trials.params[i], text: (s, i) => thousands(s.trials.params[i])},
  {name: '% of model', of: (s, i) => s.trials.params[i], text: (s, i) => s.percent(s.trials.params[i]).toFixed(3)},
  {name: 'score', of: (s, i) => s.trials.score[i], text: (s, i) => score(s.trials.score[i])},
  {name: 'test', of: (s, i) => s.test.get(i)?.test.mean ?? null, text: (s, i) => score(s.test.get(i)?.test.mean)},
  {
    name: 'time',
    of: (s, i) => s.trials.seconds[i],
    text: (s, i) => (s.trials.seconds[i] === null ? '' : duration(s.trials.seconds[i])),
  },
  {name: 'plan', left: true, of: (s, i) => s.plan(i)},
]
const page = 100

class Table {
  constructor(state) {
    this.state = state
    this.count = html('p', {class: 'note', role: 'status'})
    this.more = html(
      'button',
      {
        type: 'button',
        onclick: () => {
          this.rows += page
          this.draw()
        },
      },
      `${page} more`
    )
    this.hint = html('p', {class: 'note'})
    this.scroll = region('Table of the trials')
    this.box = html(
      'section',
      {id: 'table', class: 'wide', 'aria-label': 'Trials'},
      html('div', {class: 'bar'}, html('h2', {}, 'Trials'), this.count),
      this.hint,
      this.scroll,
      this.more
    )
    this.by = 0
    this.down = true
    this.rows = page
  }

  show(s) {
    this.study = s
    this.draw()
  }

  sort(k) {
    this.down = this.by === k ? !this.down : columns[k].name !== 'plan' && columns[k].name !== 'from'
    this.by = k
    this.draw()
    this.scroll.querySelectorAll('th button')[k].focus()
  }

  draw() {
    const s = this.study,
      column = columns[this.by],
      sign = this.down ? -1 : 1
    const title = c => (c.name === 'score' ? s.metric : c.name)
    const heads = columns.map((c, k) =>
      th(
        html(
          'button',
          {type: 'button', onclick: () => this.sort(k)},
          title(c),
          k === this.by ? (this.down ? ' ↓' : ' ↑') : ''
        ),
        {
          class: c.left ? 'text' : null,
          'aria-sort': k === this.by ? (this.down ? 'descending' : 'ascending') : null,
        }
      )
    )
    const cell = (c, i) =>
      c.name === 'trial'
        ? td(null, html('button', {type: 'button', title: 'compare this trial', onclick: () => pick(i)}, String(i)))
        : c.left
          ? td(null, c.of(s, i), c.name === 'plan' ? 'text plan' : 'text')
          : td(title(c), c.text(s, i))
    const found = s.numbers(this.state.shown).map(i => [column.of(s, i), i])
    // What has no value comes last.
    found.sort(([a, i], [b, j]) => (a === null) - (b === null) || (a < b ? -sign : a > b ? sign : i - j))
    const rows = found.slice(0, this.rows).map(([, i]) =>
      html(
        'tr',
        {class: s.onFront.has(i) ? 'on-front' : null},
        columns.map(c => cell(c, i))
      )
    )
    this.scroll.replaceChildren(grid(heads, rows, {class: 'cards'}))
    this.count.textContent = `${thousands(found.length)} of ${thousands(s.count)}`
    this.hint.textContent = this.state.shown.hint
    this.scroll.hidden = this.state.shown.hint !== ''
    this.more.hidden = found.length <= this.rows
  }
}

// runningTable lists the trials that run: how far they are, or what they wait for.
function runningTable(s) {
  const left = r => {
    if (r.doing) return r.left_s ? duration(r.left_s) : ''
    if (!r.step || !r.steps) return ''
    return duration((((Date.parse(r.reported) - Date.parse(r.started)) / 1000) * (r.steps - r.step)) / r.step)
  }
  const at = (done, of) => (of ? `${thousands(done)} of ${thousands(of)}` : done ? thousands(done) : '')
  const rows = s.running
    .filter(r => r.trial in s.trials.number)
    .map(r =>
      html(
        'tr',
        {},
        td('trial', String(r.trial)),
        td(null, r.lane, 'text'),
        td(null, r.doing || (r.steps ? 'training' : 'begins'), 'text'),
        td('at', r.doing ? at(r.done ?? 0, r.of) : at(r.step, r.steps)),
        td('left', left(r)),
        td('parameters', thousands(s.trials.params[r.trial])),
        td(null, s.plan(r.trial), 'text plan')
      )
    )
  const text = {class: 'text'}
  return grid(
    [th('trial'), th('process', text), th('does', text), th('at'), th('left'), th('parameters'), th('plan', text)],
    rows,
    {class: 'cards'}
  )
}

// differences lists what two trials differ in, as [what, of the first, of the second], and counts what is equal.
function differences(s, a, b) {
  const t = s.trials,
    rows = [],
    none = '–'
  let equal = 0
  const row = (name, va, vb) => {
    if (va === vb) equal++
    else rows.push([name, va, vb])
  }
  row('state', t.state[a], t.state[b])
  row('from', t.origin[a], t.origin[b])
  row('parameters', thousands(t.params[a]), thousands(t.params[b]))
  row(s.metric, score(t.score[a]) || none, score(t.score[b]) || none)
  row('on test', s.test.has(a) ? spread(s.test.get(a).test) : none, s.test.has(b) ? spread(s.test.get(b).test) : none)
  row(
    'time',
    t.seconds[a] === null ? none : duration(t.seconds[a]),
    t.seconds[b] === null ? none : duration(t.seconds[b])
  )
  row('learning rate', String(t.learning_rate[a]), String(t.learning_rate[b]))
  row('schedule', t.schedule[a], t.schedule[b])
  for (const {layer, method, name} of s.places([a, b]))
    row(name, String(s.size(a, method, layer) || none), String(s.size(b, method, layer) || none))
  return {rows, equal}
}

class Comparison {
  constructor() {
    const input = name =>
      html('input', {type: 'number', min: '0', step: '1', oninput: () => this.draw(), 'aria-label': name})
    this.inputs = [input('first trial'), input('second trial')]
    this.body = region('Differences of the two trials')
    this.note = html('p', {class: 'note', role: 'status'})
    this.box = html(
      'section',
      {id: 'comparison', 'aria-label': 'Two trials'},
      html(
        'div',
        {class: 'bar'},
        html('h2', {}, 'Two trials'),
        html('label', {}, 'trial ', this.inputs[0]),
        html('label', {}, 'and ', this.inputs[1])
      ),
      this.body,
      this.note
    )
  }

  show(s) {
    if (this.study?.study !== s.study || this.inputs.every(input => input.value === '')) {
      const best = s.front.at(-1),
        other = s.recommended === null || s.recommended === best ? s.front.at(-2) : s.recommended
      ;[this.inputs[0].value, this.inputs[1].value] = other === undefined ? ['', ''] : [other, best]
    }
    this.study = s
    this.draw()
  }

  // take makes a trial the second of the two, and what was the second the first.
  take(i) {
    if (String(i) === this.inputs[1].value) return
    this.inputs[0].value = this.inputs[1].value
    this.inputs[1].value = i
    this.draw()
  }

  draw() {
    const s = this.study,
      [a, b] = this.inputs.map(input => (input.value === '' ? NaN : Number(input.value)))
    if (!(a in s.trials.number) || !(b in s.trials.number)) {
      this.body.replaceChildren()
      this.note.textContent = s.count
        ? `Trials have numbers from 0 to ${s.count - 1}; a click on a point takes it.`
        : 'There is no trial yet.'
      return
    }
    const {rows, equal} = differences(s, a, b)
    this.body.replaceChildren(
      grid(
        [th('what differs', {class: 'text'}), th(`trial ${a}`), th(`trial ${b}`)],
        rows.map(([name, va, vb]) =>
          html('tr', {}, html('th', {scope: 'row', class: 'text'}, name), td(null, va), td(null, vb))
        )
      )
    )
    this.note.textContent =
      `${equal} things are equal and not shown. ` +
      'A click on a point or on a number of the table takes its trial.'
  }
}
