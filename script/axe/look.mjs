// Opens pages of a mirror in Chromium, in light and dark, on a desk and on a
// phone, and says on stdout, one line each, what is wrong with them: findings of
// axe-core, words of the console (violations of the content security policy are
// among them), requests to elsewhere, text that runs over the edge of a phone.
// Silence and exit code 0 mean that nothing was found.
//
//   node look.mjs CHROMIUM URL...
//   SHOTS=DIR node look.mjs CHROMIUM URL...     also writes pictures, and the page as printed
import { mkdir, writeFile } from 'node:fs/promises'
import axe from 'axe-core'
import puppeteer from 'puppeteer-core'

const [chromium, ...urls] = process.argv.slice(2)
const shots = process.env.SHOTS
if (shots) await mkdir(shots, { recursive: true })
const browser = await puppeteer.launch({
  executablePath: chromium,
  args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking'],
})
let found = 0
const say = (...words) => { found++; console.log(words.join(' ')) }
const views = [
  { name: 'light', width: 1000, scheme: 'light' },
  { name: 'phone-dark', width: 390, scheme: 'dark' },
]
if (shots) views.push({ name: 'dark', width: 1000, scheme: 'dark' }, { name: 'phone', width: 390, scheme: 'light' })
try {
  for (const url of urls) {
    const origin = new URL(url).origin
    const file = new URL(url).pathname.replaceAll('/', '_').slice(0, 40) + (new URL(url).search && '_q')
    for (const view of views) {
      const page = await browser.newPage()
      page.on('console', m => /^Failed to load resource: .* status of [34]/.test(m.text()) && m.location().url === url || say(url, view.name, 'console:', m.text()))
      page.on('pageerror', e => say(url, view.name, 'error:', e.message))
      page.on('request', r => { if (new URL(r.url()).origin !== origin) say(url, view.name, 'asks elsewhere:', r.url()) })
      await page.setViewport({ width: view.width, height: 900 })
      await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: view.scheme }])
      await page.setExtraHTTPHeaders({ Accept: 'text/html' })
      await page.goto(url, { waitUntil: 'load' })
      const over = await page.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth')
      if (over > 0) say(url, view.name, 'runs', over, 'pixels over the edge')
      await page.evaluate(axe.source)
      const { violations } = await page.evaluate('axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] })')
      for (const v of violations) for (const n of v.nodes) say(url, view.name, v.id + ':', n.target.join(' '), n.failureSummary.replaceAll('\n', ' '))
      if (shots) {
        await page.screenshot({ path: `${shots}/${file}-${view.name}.png`, fullPage: true })
        if (view.name === 'light') await writeFile(`${shots}/${file}-print.pdf`, await page.pdf({ format: 'A4' }))
      }
      await page.close()
    }
  }
} finally {
  await browser.close()
}
process.exit(found ? 1 : 0)
