'use strict'
// The parts that every figure is made of. Text is always set as text: nothing that a study brings along is markup.

const html = (name, attributes = {}, ...children) => build(document.createElement(name), attributes, children)
const svg = (name, attributes = {}, ...children) =>
  build(document.createElementNS('http://www.w3.org/2000/svg', name), attributes, children)

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value)
    else if (value !== null && value !== undefined && value !== false)
      element.setAttribute(name, value === true ? '' : value)
  }
  element.append(...children.flat().filter(child => child !== null && child !== undefined))
  return element
}

const trim = number => String(Number(number))
function brief(n) {
  // 1234567 is 1.23M
  if (n >= 999500) return trim((n / 1e6).toPrecision(3)) + 'M'
  return n >= 1000 ? trim((n / 1e3).toPrecision(3)) + 'k' : String(n)
}
const score = s => (s === null || s === undefined ? '' : s.toFixed(4))
const signed = s => (s >= 0 ? '+' : '−') + Math.abs(s).toFixed(4)
const thousands = n => n.toLocaleString('en-US')
function duration(seconds) {
  if (seconds >= 3600)
    return `${Math.floor(seconds / 3600)}h${String(Math.floor(seconds / 60) % 60).padStart(2, '0')}m`
  if (seconds >= 60) return `${Math.floor(seconds / 60)}m${String(Math.floor(seconds) % 60).padStart(2, '0')}s`
  return seconds >= 10 ? `${Math.round(seconds)}s` : `${trim(seconds.toPrecision(2))}s`
}

function extent(values) {
  let low = Infinity,
    high = -Infinity
  for (const v of values)
    if (v !== null && v !== undefined) {
      if (v < low) low = v
      if (v > high) high = v
    }
  return low > high ? [0, 1] : [low, high]
}

// reach is the extent of scores with room for the ends of intervals: a quarter of the extent at each side at most, so
// that an interval of two seeds, which may be of any length, does not press the scores together.
function reach(scores, ends) {
  const [low, high] = extent(scores),
    [least, greatest] = extent([...scores, ...ends])
  if (low === high) return [least, greatest]
  const room = (high - low) / 4
  return [Math.max(least, low - room), Math.min(greatest, high + room)]
}

// between is a value, or the end of [low, high] that it lies beyond.
const between = (low, v, high) => Math.min(Math.max(v, low), high)

// A scale maps values of [low, high] to pixels. Of a logarithmic one, values below low, such as 0, lie at its start.
function linear(low, high, from, to) {
  if (!(high > low)) {
    low -= 0.5
    high += 0.5
  }
  const at = v => from + ((v - low) / (high - low)) * (to - from)
  const rough = (high - low) / 5,
    unit = 10 ** Math.floor(Math.log10(rough))
  const step = [1, 2, 5, 10].map(m => m * unit).find(s => s >= rough)
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9))
  const ticks = []
  for (let v = Math.ceil(low / step) * step; v <= high + step * 1e-9; v += step)
    ticks.push([at(v), step >= 1000 ? brief(Math.round(v)) : v.toFixed(digits)])
  return {at, ticks}
}

function logarithmic(low, high, from, to, zero) {
  low = Math.log10(low)
  high = Math.log10(high)
  if (!(high > low)) {
    low -= 0.5
    high += 0.5
  }
  const at = v => (v <= 0 ? from : from + Math.max(0, (Math.log10(v) - low) / (high - low)) * (to - from))
  const ticks = zero ? [[from, '0']] : []
  const marks = high - low > 2.2 ? [1] : high - low > 1.1 ? [1, 3] : [1, 2, 5]
  for (let e = Math.floor(low); e <= high; e++) {
    for (const m of marks) {
      const v = m * 10 ** e
      if (Math.log10(v) >= low && Math.log10(v) <= high && (!zero || Math.abs(at(v) - from) > 26)) ticks.push([at(v), brief(v)])
    }
  }
  return {at, ticks}
}

// sizes is the scale of numbers of parameters, of which some may be 0.
function sizes(values, from, to, log) {
  const positive = values.filter(v => v > 0),
    zero = positive.length < values.length
  if (!log) return linear(0, Math.max(...positive, 1), from, to)
  const [low, high] = extent(positive.length ? positive : [1, 10])
  return logarithmic(zero ? low / 2 : low, high, from, to, zero)
}

// A figure is a titled box with a plot that is drawn anew when its width changes.
class Figure {
  constructor(id, title, options = {}) {
    this.plot = html('div', {class: 'plot', tabindex: '0', role: 'img', 'aria-label': title})
    this.note = html('p', {class: 'note'})
    this.caption = html('figcaption', {}, html('h2', {}, title))
    this.box = html('figure', {id, class: options.wide ? 'wide' : null}, this.caption, this.plot, this.note)
    this.tip = html('div', {class: 'tip', hidden: true})
    this.height = options.height ?? 320
    this.at = -1
    this.plot.addEventListener('pointermove', e => this.hover(e))
    this.plot.addEventListener('pointerleave', () => this.point(-1))
    this.plot.addEventListener('click', e => {
      this.hover(e)
      this.choose()
    })
    this.plot.addEventListener('keydown', e => this.key(e))
    this.plot.addEventListener('blur', () => this.point(-1))
    this.plot.style.minHeight = `${this.height}px`
    new ResizeObserver(() => {
      if (this.plot.clientWidth !== this.width) this.draw()
    }).observe(this.plot)
    new IntersectionObserver(
      entries => {
        this.seen = entries.at(-1).isIntersecting
        if (this.late) this.draw()
      },
      {rootMargin: '50%'}
    ).observe(this.plot)
    addEventListener('beforeprint', () => this.draw(true))
  }

  // content is a function that is given the width and returns {height, parts, targets, summary, label}: a target is a
  // place that answers to the pointer, {x, y, text, trial?, w?, h?}; those with stop are reached by the arrow keys.
  show(content) {
    this.content = content
    this.draw()
  }

  static lazy = false // a figure is drawn when it comes on the screen, for studies that take their time

  draw(now = this.seen || !Figure.lazy) {
    this.width = this.plot.clientWidth
    this.late = !now
    if (!this.content || !this.width || !now) return
    this.plot.style.minHeight = ''
    const {height = this.height, parts, targets = [], summary = ''} = this.content(this.width)
    const before = this.targets?.[this.at]
    this.targets = targets
    this.stops = targets.flatMap((t, i) => (t.stop ? [i] : []))
    this.mark = svg('g')
    this.plot.replaceChildren(
      svg('svg', {viewBox: `0 0 ${this.width} ${height}`, height, 'aria-hidden': 'true'}, parts, this.mark),
      this.tip
    )
    if (summary) this.plot.setAttribute('aria-label', summary)
    this.point(before?.trial == null ? -1 : targets.findIndex(t => t.trial === before.trial && t.stop === before.stop))
  }

  hover(event) {
    const box = this.plot.getBoundingClientRect()
    const x = event.clientX - box.left,
      y = event.clientY - box.top
    let best = -1,
      nearest = 30 * 30
    this.targets?.forEach((t, i) => {
      const dx = t.w ? Math.max(t.x - x, 0, x - t.x - t.w) : t.x - x,
        dy = t.h ? Math.max(t.y - y, 0, y - t.y - t.h) : t.y - y
      const distance = dx * dx + dy * dy - (t.stop ? 9 : 0)
      if (distance < nearest) {
        nearest = distance
        best = i
      }
    })
    this.point(best)
  }

  key(event) {
    const step = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: 1, ArrowUp: -1}[event.key]
    if (event.key === 'Enter') return this.choose()
    if (event.key === 'Escape') return this.point(-1)
    if (!step || !this.stops?.length) return
    event.preventDefault()
    const now = this.stops.indexOf(this.at)
    this.point(
      this.stops[
        now < 0 ? (step > 0 ? 0 : this.stops.length - 1) : Math.min(Math.max(now + step, 0), this.stops.length - 1)
      ]
    )
  }

  choose() {
    const trial = this.targets?.[this.at]?.trial
    if (trial !== undefined) pick(trial)
  }

  // point shows what is known of a target.
  point(i) {
    this.at = i
    const t = this.targets?.[i]
    this.tip.hidden = !t
    this.mark?.replaceChildren()
    if (!t) return
    this.mark.append(
      t.w
        ? svg('rect', {x: t.x, y: t.y, width: t.w, height: t.h, class: 'pick'})
        : svg('circle', {cx: t.x, cy: t.y, r: 7, class: 'pick'})
    )
    if (t.path) this.mark.append(svg('path', {d: t.path, class: 'pick'}))
    this.tip.textContent = t.text
    this.plot.setAttribute('aria-label', t.text)
    const width = this.tip.offsetWidth,
      x = t.x + (t.w ?? 0)
    const left = x + 14 + width > this.width ? Math.min(t.x, this.width) - width - 14 : x + 14
    this.tip.style.left = `${Math.max(0, left)}px`
    this.tip.style.top = `${Math.max(0, t.y - 10)}px`
  }
}

// axes draws ticks and names: x below, y at the left.
function axes(x, y, box, names) {
  const parts = [svg('path', {class: 'axis', d: `M${box.left} ${box.top}V${box.bottom}H${box.right}`})]
  for (const [at, text] of x?.ticks ?? []) {
    parts.push(
      svg('path', {class: 'axis', d: `M${at} ${box.bottom}v4`}),
      svg('text', {x: at, y: box.bottom + 16, 'text-anchor': 'middle'}, text)
    )
  }
  for (const [at, text] of y?.ticks ?? []) {
    parts.push(
      svg('path', {class: 'axis', d: `M${box.left} ${at}h-4`}),
      svg('text', {x: box.left - 7, y: at + 4, 'text-anchor': 'end'}, text)
    )
  }
  if (names.x)
    parts.push(svg('text', {x: box.right, y: box.bottom + 31, 'text-anchor': 'end', class: 'label'}, names.x))
  if (names.y) parts.push(svg('text', {x: 0, y: 11, class: 'label'}, names.y))
  return parts
}

const frame = (width, height, left = 52) => ({left, right: width - 12, top: 22, bottom: height - 36})

// dots are many points as one path, which browsers draw as fast as one.
const dots = (points, size, name) =>
  svg('path', {
    class: 'dots ' + name,
    'stroke-width': size,
    d: points.map(([x, y]) => `M${x.toFixed(1)} ${y.toFixed(1)}h0`).join(''),
  })
const line = points => points.map(([x, y], i) => `${i ? 'L' : 'M'}${x.toFixed(1)} ${y.toFixed(1)}`).join('')
const stairs = points =>
  points.map(([x, y], i) => (i ? `H${x.toFixed(1)}V${y.toFixed(1)}` : `M${x.toFixed(1)} ${y.toFixed(1)}`)).join('')
