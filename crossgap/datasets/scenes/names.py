"""The things that scenes show, by name, and what is fixed of a scene."""

from __future__ import annotations

# Nouns of one or two words whose drawings can be told apart at 16 pixels, of the emoji's training split:
# what is sealed or tested there is not seen here. No colour, size or place is part of a name, and none is
# plural or a substance, so that "a" or "an" fits all.
_NAMES = """
wolf, fox, cat, tiger, leopard, horse, unicorn, bison, ox, llama, elephant, mammoth, mouse, rabbit, chipmunk,
hedgehog, bat, bear, panda, sloth, otter, kangaroo, badger, orangutan, poodle, turkey, penguin, duck, dodo,
flamingo, parrot, goose, feather, frog, turtle, lizard, sauropod, whale, shark, octopus, jellyfish, crab,
lobster, oyster, snail, cricket, cockroach, spider web, scorpion, mosquito, lady beetle, lotus, rosette,
hibiscus, sunflower, tulip, hyacinth, seedling, evergreen tree, palm tree, cactus, mushroom, maple leaf,
melon, watermelon, tangerine, banana, peach, strawberry, tomato, olive, coconut, avocado, eggplant, carrot,
bell pepper, cucumber, pretzel, pizza, hot dog, sandwich, burrito, cookie, cupcake, lollipop, custard,
moon cake, compass, hut, church, tent, ferris wheel, barber pole, tram, bus, tractor, motorcycle, bicycle,
canoe, speedboat, parachute, helicopter, rocket, satellite, stopwatch, thermometer, umbrella, snowman,
balloon, trophy, soccer ball, basketball, ice skate, kite, crystal ball, magic wand, teddy bear, necktie,
scarf, dress, handbag, crown, top hat, lipstick, microphone, headphone, saxophone, trumpet, accordion, guitar,
banjo, drum, telephone, battery, printer, abacus, television, candle, light bulb, scroll, envelope, package,
postbox, paintbrush, crayon, briefcase, calendar, clipboard, pushpin, paperclip, hammer, bomb, shield,
wrench, gear, clamp, hook, toolbox, magnet, alembic, microscope, telescope, syringe, pill, mirror, bed, chair,
bathtub, razor, broom, toothbrush, sponge, coffin, headstone, spoon
"""


SIDE = 64  # pixels of a scene
UNSEEN = 20  # objects after the seen ones, for the split of held-out objects


NAMES = tuple(sorted({" ".join(name.split()) for name in _NAMES.split(",")}))


MOST_OBJECTS = len(NAMES)


HELD_OUT_DESIGNER = "openmoji"  # draws every emoji, with an outline that no other has
