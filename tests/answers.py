"""Sixty questions with a better and a worse answer each: prose, lists, steps and code; with numbers, names and negations."""

from __future__ import annotations

from guerdon.contracts import Comparison, Preference, Response, as_prompt

ROWS = (
    (
        "How long should I boil an egg?",
        "For a soft yolk, boil a large egg for 6 minutes. For a hard one, give it 10 minutes. Put it into cold "
        "water afterward, because it keeps cooking in its shell.",
        "It depends on the egg. Some people like them soft and others like them hard. You can boil it for a "
        "while and see.",
    ),
    (
        "Who painted the Mona Lisa?",
        "The Mona Lisa was painted by Leonardo da Vinci, who began it in Florence around 1503. It hangs in the "
        "Louvre in Paris today.",
        "It is a very famous painting of a woman with a mysterious smile. Many people have written about it, "
        "and there are always large crowds in front of it.",
    ),
    (
        "Why is the sky blue?",
        "Sunlight is a mixture of colors. Air scatters short waves more strongly than long ones, so blue light "
        "reaches your eyes from every direction. At sunset the light takes a longer path, and mostly red is "
        "left.",
        "The sky is blue because it reflects the ocean. That is why it is grey over the land when the weather is bad.",
    ),
    (
        "Write a Python function that adds up the even numbers of a list.",
        "Here is one:\n\n```python\ndef sum_even(numbers):\n    total = 0\n    for n in numbers:\n        if n "
        "% 2 == 0:\n            total += n\n    return total\n```\n\nIt returns 0 for an empty list.",
        "You can use a loop:\n\n```python\ndef sum_even(numbers):\n    return sum(numbers)\n```\n\nThis is "
        "short and works for many lists.",
    ),
    (
        "What should I pack for a weekend in Berlin in November?",
        "It is usually cold and damp there in November, about 4 to 8 degrees Celsius. Pack:\n\n- a warm coat\n"
        "- waterproof shoes\n- a scarf and gloves\n- a small umbrella\n\nYou don't need formal clothes for "
        "most places.",
        "Pack light. Berlin is a great city, and you can buy what you forget. Have fun on your trip!",
    ),
    (
        "Can I give my dog chocolate?",
        "No. Chocolate is dangerous for dogs, because they break down theobromine very slowly. Even 50 grams "
        "of dark chocolate can make a small dog ill. Call a vet if yours has eaten some.",
        "A little bit should be fine if your dog likes it. Dogs eat all kinds of things and most of them are "
        "happy afterward.",
    ),
    (
        "How do I center a div in CSS?",
        "Use flexbox on the parent:\n\n```css\n.parent {\n  display: flex;\n  justify-content: center;\n  "
        "align-items: center;\n}\n```\n\nThe parent needs a height, or there is nothing to center in.",
        "There are many ways to do it. Some people use tables and others use margins. I think you should try a "
        "few and look at the result in your browser.",
    ),
    (
        "What is the capital of Australia?",
        "The capital of Australia is Canberra. It was chosen in 1908 as a compromise between Sydney and Melbourne.",
        "The capital of Australia is Sydney, which is known for its opera house and its harbour.",
    ),
    (
        "How do vaccines work?",
        "A vaccine shows your immune system a harmless piece of a germ. Your body makes antibodies and memory "
        "cells. When the real germ arrives, they recognize it quickly, so you usually don't become ill.",
        "Vaccines are medicines that kill the germs in your blood. You need a new one every time that you feel sick.",
    ),
    (
        "Give me three tips for sleeping better.",
        "1. Go to bed at the same hour every night, also on weekends.\n2. Avoid coffee after 2 pm, since "
        "caffeine stays in the body for hours.\n3. Keep the bedroom cool and dark, and leave your phone "
        "outside.",
        "Sleep is very important. You should try to sleep more and worry less. Maybe read a book.",
    ),
    (
        "How far is the Moon?",
        "On average the Moon is about 384,400 km away from Earth. The distance changes by some 40,000 km in a "
        "month, because its orbit is an ellipse.",
        "The Moon is really far away. Astronauts needed a big rocket to get there, and it took them days.",
    ),
    (
        "Summarize the plot of Romeo and Juliet in two sentences.",
        "Two young people from feuding families in Verona fall in love and marry in secret. A plan to save "
        "them fails, both die, and their families make peace over their graves.",
        "It is a play by William Shakespeare. Romeo and Juliet is one of the most famous love stories of all "
        "time and has been filmed many times.",
    ),
    (
        "Should I learn Python or Java first?",
        "I would start with Python. Its syntax is simple, so you can think about the problem rather than the "
        "language. Java is worth learning later, particularly for Android or for large companies.",
        "Both are good. Some people say Python and some people say Java. You cannot go wrong with either of "
        "them, so pick one.",
    ),
    (
        "How much water should I drink a day?",
        "Most adults need about two liters of fluid a day. You need more when it is hot or when you exercise. "
        "If your urine is pale, you are probably drinking enough.",
        "Drink as much as you can. Water is healthy and more is always better for you.",
    ),
    (
        "Explain recursion to a child.",
        "Imagine a box with a smaller box inside, and a smaller one in that. To find the coin, you open a box "
        "and do the same thing again, until there are no more boxes. Doing the same thing on a smaller piece "
        "is recursion.",
        "Recursion is when a function calls itself with a base case and a recursive case, which is implemented "
        "with a call stack.",
    ),
    (
        "What causes the seasons?",
        "The seasons come from the tilt of Earth's axis, which is about 23 degrees. In June the northern half "
        "leans toward the Sun and has longer days. The distance to the Sun is not the reason.",
        "In summer Earth is closer to the Sun, and in winter it is further away. That makes it warm or cold.",
    ),
    (
        "How do I remove a red wine stain?",
        "Blot the stain at once with a clean cloth, but do not rub. Cover it with salt or baking soda for 10 "
        "minutes. Then rinse with cold water and wash as usual.",
        "Just put the shirt into the washing machine with hot water. If that does not help, the shirt is "
        "ruined anyway.",
    ),
    (
        "What's 15% of 240?",
        "15% of 240 is 36. Ten percent is 24 and five percent is 12, and together they make 36.",
        "To find a percentage, you multiply and then divide. The answer is about 40.",
    ),
    (
        "Tell me about Marie Curie.",
        "Marie Curie was born in Warsaw in 1867 and worked in Paris. She discovered polonium and radium with "
        "her husband Pierre. She is the only person with Nobel Prizes in two different sciences.",
        "Marie Curie was a scientist. She did many experiments and was very clever. People still talk about her today.",
    ),
    (
        "How can I get rid of weeds without chemicals?",
        "Pull them after rain, when the roots come out easily. Cover bare soil with bark or straw, so that "
        "light cannot reach the seeds. For paths, boiling water works well.",
        "You can't really do that. Weeds always come back, so most people use a spray.",
    ),
    (
        "Is it safe to eat raw cookie dough?",
        "It is not safe. Raw flour can carry bacteria, and raw eggs may contain salmonella. There are recipes "
        "with heat-treated flour and without eggs if you want to eat it raw.",
        "Yes, everybody does it! I think it is the best part of baking and nothing ever happens.",
    ),
    (
        "How do I reverse a string in JavaScript?",
        "Split it, reverse the array and join it again:\n\n```javascript\nconst reversed = "
        "text.split('').reverse().join('');\n```\n\nFor emoji, use `[...text]` instead of `split`, because "
        "some characters take two units.",
        "JavaScript has a function for that, I believe it is called `text.reverse()`. Try it in the console.",
    ),
    (
        "What does a mortgage broker do?",
        "A broker compares loans from several banks and helps you apply for one. He or she is paid by the bank "
        "or by you, so ask about fees before you sign. You can also go to a bank directly.",
        "A mortgage broker is a person who works with mortgages. They help people with houses and money and "
        "things like that.",
    ),
    (
        "Who won the World Cup in 1998?",
        "France won the 1998 World Cup at home. They beat Brazil 3 to 0 in the final in Saint-Denis, and "
        "Zidane scored two goals.",
        "Brazil won it. They had Ronaldo, who was the best player of the tournament by far.",
    ),
    (
        "How do I ask for a raise?",
        "Make a list of what you achieved this year, with numbers where you have them. Ask for a meeting "
        "instead of doing it in passing. Name a figure, and then wait for the answer.",
        "Tell your boss that you need more money and that you will leave otherwise. They usually give in.",
    ),
    (
        "What is photosynthesis?",
        "Plants use light to turn water and carbon dioxide into sugar. Oxygen is released as a by-product. It "
        "happens in the chloroplasts, which are green because of chlorophyll.",
        "It is how plants breathe at night. They take in oxygen from the soil and make carbon dioxide.",
    ),
    (
        "Recommend a book for a 10-year-old who likes dragons.",
        "I would suggest *How to Train Your Dragon* by Cressida Cowell. It is funny, it has short chapters, "
        "and the hero isn't the strongest boy. *Eragon* is better in two or three years.",
        "There are a lot of books about dragons. The library is a good place to look for them, and the people "
        "there can help you.",
    ),
    (
        "How do I change a flat bicycle tire?",
        "1. Take the wheel off and let the air out.\n2. Lift one side of the tire with two levers.\n3. Pull "
        "the tube out, and look for the nail or glass.\n4. Put in the new tube, push the tire back, and pump "
        "it up.",
        "Bring it to a shop. It costs about 15 dollars and they do it in an hour. Doing it yourself is not "
        "worth the trouble.",
    ),
    (
        "What time zone is Tokyo in?",
        "Tokyo is in Japan Standard Time, which is 9 hours ahead of UTC. Japan does not use daylight saving time.",
        "It is in Asia, so it is many hours ahead of you. You should check a website before you call anyone.",
    ),
    (
        "Why do cats purr?",
        "Cats often purr when they are content, but they also do it when they are hurt or afraid. The sound "
        "comes from the muscles of the larynx. It may even help bones to heal.",
        "Cats purr because they are happy. It is their way of laughing.",
    ),
    (
        "Write a short thank-you note for a birthday gift.",
        "Dear Anna,\n\nThank you so much for the lovely scarf. It is warm and soft, and I wore it on Monday "
        "already. I hope to see you soon.\n\nLove, Tom",
        "Thank you for the gift. I liked the gift very much. It was a good gift and I will use the gift.",
    ),
    (
        "How does a microwave heat food?",
        "Microwaves make water molecules turn back and forth billions of times a second. That motion is heat. "
        "Dry or frozen parts take up less energy, so they stay cold, and stirring helps.",
        "It heats the food from the inside to the outside with radiation, which is why you should stand at a distance.",
    ),
    (
        "What is the boiling point of water on Mount Everest?",
        "At the top of Mount Everest water boils at about 70 degrees Celsius. The air pressure there is only a "
        "third of that at sea level.",
        "Water boils at 100 degrees Celsius everywhere. On a mountain it takes longer, because it is cold.",
    ),
    (
        "How do I write a SQL query for the ten newest orders?",
        "Sort by date and take ten rows:\n\n```sql\nSELECT * FROM orders\nWHERE total > 0\nORDER BY created_at "
        "DESC\nLIMIT 10;\n```\n\nAn index on `created_at` makes it fast.",
        "Select everything from the table and look at the last ten. Most tools have a button for sorting.",
    ),
    (
        "Do I need a visa for Canada as a German citizen?",
        "No visa is needed for stays of up to 6 months. You must have an electronic travel authorization, "
        "which costs 7 dollars and is valid for five years. Apply for it before you fly.",
        "I am not sure. Rules change all the time. You should be careful with borders.",
    ),
    (
        "How can I calm down before an exam?",
        "Breathe in for four seconds and out for six, ten times. Arrive early, and don't compare notes with "
        "others at the door. Remind yourself that one exam never decides a life.",
        "Don't be nervous. If you have studied enough, there is no reason to be nervous at all.",
    ),
    (
        "What is compound interest?",
        "It is interest on interest. If you put in 100 dollars at 5 percent, you have 105 after one year and "
        "110.25 after two. Over 30 years it more than quadruples your money.",
        "Compound interest is a kind of interest that banks have. It is good if you save and bad if you borrow.",
    ),
    (
        "How do I make pancakes?",
        "Mix 200 g flour, two eggs, 300 ml milk and a pinch of salt. Let the batter rest for 15 minutes. Bake "
        "thin pancakes in a hot pan with a little butter, about one minute on each side.",
        "Pancakes are easy. Buy a mix at the store and follow what it says on the box. Enjoy!",
    ),
    (
        "Who was Nelson Mandela?",
        "Nelson Mandela fought against apartheid in South Africa and spent 27 years in prison. He was released "
        "in 1990 and became the first Black president of his country in 1994.",
        "Nelson Mandela was an important leader in Africa. He was loved by a lot of people and he won prizes.",
    ),
    (
        "Why does bread rise?",
        "Yeast eats the sugar in the dough and gives off carbon dioxide. The gluten holds the gas in small "
        "bubbles, so the dough grows. Without warmth the yeast works very slowly.",
        "Bread rises because hot air goes up. That is why the oven has to be really hot.",
    ),
    (
        "How do I stop my code from crashing on empty input?",
        "Check for it first:\n\n```python\ndef mean(values):\n    if len(values) == 0:\n        return "
        "None\n    return sum(values) / len(values)\n```\n\nThe caller must then handle `None`.",
        "Put everything into a try block and ignore the error. Then your code cannot crash anymore.",
    ),
    (
        "What are good questions for a job interview?",
        "- What would my first three months look like?\n- How do you measure success in this role?\n- What do "
        "people like least about working here?\n\nThe last one often gets the most honest answer.",
        "Ask about the salary and the holidays. Those are the most important things, and they expect it.",
    ),
    (
        "Is Pluto a planet?",
        "Since 2006 Pluto has been called a dwarf planet. It orbits the Sun and is round, but it has not "
        "cleared its path of other bodies. Some astronomers still disagree.",
        "Yes, Pluto is the ninth planet and the smallest one. It was discovered a long time ago.",
    ),
    (
        "How do I keep basil alive on my windowsill?",
        "Give it at least six hours of sun and water it from below. Cut whole stems just above a pair of "
        "leaves, rather than picking leaves. Supermarket pots are too full, so divide them.",
        "Basil always dies. Buy a new one every week, they are cheap.",
    ),
    (
        "What is the difference between a virus and a bacterium?",
        "Bacteria are cells that live by themselves, and antibiotics can kill them. Viruses are much smaller "
        "and need a host cell to multiply. Antibiotics do not help against them.",
        "They are both germs that make you sick. A virus is worse, since it is bigger and stronger.",
    ),
    (
        "Plan a day in Rome for me.",
        "Start at the Colosseum at 9, before the crowds. Walk through the Forum to the Pantheon and have lunch "
        "near Campo de' Fiori. Cross the Tiber to Trastevere in the evening. Book tickets two weeks ahead.",
        "Rome has so much to see that one day is not enough. You should stay longer. The food is great too.",
    ),
    (
        "How many bones does an adult have?",
        "An adult has 206 bones. A newborn has around 270, because some of them grow together later.",
        "There are hundreds of bones in the body, and the longest one is in the leg.",
    ),
    (
        "How do I git-undo my last commit?",
        "To keep your changes, run `git reset --soft HEAD~1`. To throw them away, run `git reset --hard "
        "HEAD~1`, and be careful: that cannot be undone easily. If it is pushed already, use `git revert HEAD`.",
        "Delete the folder and clone the repository again. That always works for me.",
    ),
    (
        "Why is my tomato plant's lower leaves turning yellow?",
        "Old leaves near the ground often turn yellow because they get less light. If it moves upward, it may "
        "lack nitrogen, or you water it too much. Remove the leaves and feed it every two weeks.",
        "Your plant is sick. It will probably die soon. Throw it away, so that it does not infect the others.",
    ),
    (
        "What should I do if I see a bear?",
        "Do not run. Speak calmly, wave your arms slowly and back away. If a black bear attacks, fight back; "
        "if a grizzly does, lie flat and protect your neck. Carry bear spray in Alaska and Canada.",
        "Run as fast as you can and climb a tree. Bears are slow and they cannot climb.",
    ),
    (
        "Translate 'good evening' into French, Italian and Spanish.",
        "- French: bonsoir\n- Italian: buonasera\n- Spanish: buenas noches\n\nIn Spanish, *buenas tardes* is "
        "used until it is dark.",
        "In French it is bonjour. Italian and Spanish are very similar to it, so people will understand you.",
    ),
    (
        "How do noise-canceling headphones work?",
        "A microphone picks up the noise around you. The headphones play the same wave upside down, and the "
        "two cancel each other. It works better for steady low sounds, such as engines, than for voices.",
        "They have very thick pads that keep the noise outside. The more expensive they are, the thicker the pads.",
    ),
    (
        "Can you explain inflation simply?",
        "Inflation means that prices rise, so your money buys less. If bread costs 2 dollars today and 2.10 "
        "next year, inflation is 5 percent. A little is normal, and a lot is harmful.",
        "Inflation is when the government prints money. It is bad for everyone and nobody can stop it.",
    ),
    (
        "How do I introduce two cats?",
        "Keep them in separate rooms for a week and swap their blankets, so that they learn the smell. Feed "
        "them on both sides of a door. Let them meet for 5 minutes at first, and never force it.",
        "Put them in one room and let them fight it out. After that they will be friends.",
    ),
    (
        "When did the Berlin Wall fall?",
        "The Berlin Wall fell on 9 November 1989. Germany was united eleven months later, on 3 October 1990.",
        "The wall fell at the end of the Cold War, when people did not want it anymore.",
    ),
    (
        "What is a good stretch for lower back pain?",
        "Lie on your back and pull one knee toward your chest for 30 seconds. Change sides and repeat it three "
        "times. Stop if the pain goes down your leg, and see a doctor then.",
        "Bend forward as far as possible and bounce. It has to hurt, or it does not work.",
    ),
    (
        "How do I calculate the area of a circle?",
        "Multiply pi by the square of the radius: A = 3.14159 * r * r. A circle with a radius of 5 cm has an "
        "area of about 78.5 square centimeters.",
        "You take the radius and multiply it by two and then by pi. That is the area.",
    ),
    (
        "Should I rent or buy a home?",
        "Buying is usually better if you stay for more than seven years and have 20 percent saved. Renting "
        "keeps you free and costs less at first. Compare the rent with interest, tax and repairs, not with the "
        "loan payment.",
        "Always buy. Rent is money that you throw out of the window, everybody knows that.",
    ),
    (
        "What do I do about a coworker who takes credit for my work?",
        "Talk to her alone first, and say what you saw without blaming. Put your part in writing from now on, "
        "for example in short weekly mails. If it goes on, speak to your manager.",
        "Do the same to them. That is the only language such people understand.",
    ),
    (
        "How do plants know when to flower?",
        "Many plants measure the length of the night with a pigment called phytochrome. Some, such as "
        "chrysanthemums, bloom when nights are long. Others need weeks of cold before they can flower.",
        "They flower in spring because it gets warmer and the birds come back.",
    ),
)

ANSWERS = tuple(text for _, better, worse in ROWS for text in (better, worse))


def answered(num: int = len(ROWS)) -> list[Comparison]:
    """The first rows as comparisons; the better answer comes first in every second one."""
    rows = []
    for i, (prompt, better, worse) in enumerate(ROWS[:num]):
        first = i % 2 == 0
        texts = (better, worse) if first else (worse, better)
        rows.append(
            Comparison(as_prompt(prompt), (Response(texts[0]), Response(texts[1])), Preference(q=1.0 if first else 0.0))
        )
    return rows
