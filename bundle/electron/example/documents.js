/** What the example ranks: a few short texts that share topics, and few words. */

export const DOCUMENTS = Object.freeze([
  {
    title: 'Sourdough',
    text: 'Flour, water and salt are left overnight; wild yeast lets the loaf rise before it is baked.',
  },
  {
    title: 'Tides',
    text: 'The moon pulls the sea twice a day, and ships wait for high water to enter the harbour.',
  },
  {
    title: 'Compilers',
    text: 'Source code is parsed into a tree, checked for types and turned into machine instructions.',
  },
  {
    title: 'Photosynthesis',
    text: 'Leaves catch sunlight and make sugar out of carbon dioxide and water.',
  },
  {
    title: 'String quartets',
    text: 'Two violins, a viola and a cello share one melody as if in conversation.',
  },
  {
    title: 'Night trains',
    text: 'Passengers fall asleep in one country and have breakfast in the next.',
  },
  {
    title: 'Vaccines',
    text: 'The immune system meets a harmless part of a virus and remembers it for years.',
  },
  {
    title: 'Beehives',
    text: 'Thousands of workers keep the brood warm and turn nectar into honey for the winter.',
  },
]);
