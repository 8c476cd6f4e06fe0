"""Review texts with a known mood, written by a small grammar: what the sample sentiment model learns from.

A line `key: a | b` of the grammar lists ways to fill the slot `{key}`. A key may name a subject (`part@book`) and end in
the mood it belongs to (`adj+`, `adj-`). In a sentence `{adj=}` keeps the mood of the review and `{adj!}` turns it round,
so that "not {adj!}" reads "not bad" in a happy review and "not good" in an angry one.
"""

import random
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

POSITIVE: Final = 1
NEGATIVE: Final = 0

_GRAMMAR: Final = """
it@book: book | novel | story | memoir | thriller | biography | series | textbook | cookbook | guide | audiobook | poem
it@film: film | movie | show | play | documentary | comedy | drama | sequel | musical | episode | concert | album | game
it@food: restaurant | meal | dinner | cafe | lunch | pizzeria | bakery | bar | breakfast | steakhouse | place | menu
it@stay: hotel | room | hostel | apartment | cottage | resort | campsite | suite | guesthouse | villa | stay | cabin
it@app: app | program | website | update | software | version | tool | library | platform | service | course | plugin
it@help: support | customer service | company | service | agency | bank | shop | clinic | garage | insurance | repair
it@post: delivery | order | parcel | package | shipment | courier | letter | box | packaging | shipping | present
it@thing: product | phone | laptop | camera | kettle | vacuum | blender | printer | headset | speaker | watch | lamp | tent
    | bike | toy | pan | knife | chair | table | mattress | keyboard | screen | toaster | oven | drill | fridge | purchase
it@wear: dress | coat | jacket | shirt | ring | scarf | bag | sweater | suit | hat | pair of boots | pair of shoes
part@book: plot | ending | writing | hero | dialogue | first chapter | cover | style | translation | twist | prose | index
part@film: acting | plot | script | soundtrack | camera work | ending | cast | pacing | editing | music | sound | lead
part@food: food | soup | steak | coffee | dessert | wine | pasta | bread | fish | pizza | sauce | salad | curry | cake
part@stay: bed | bathroom | view | pool | breakfast | shower | wifi | location | carpet | kitchen | lobby | air | heating
part@app: interface | design | search | login | sync | layout | checkout | price | menu | documentation | setup | trial
part@help: answer | reply | advice | hotline | refund | waiting time | attitude | price | manager | chat | treatment
part@post: box | wrapping | tracking | timing | contents | delivery | driver | label | parcel | address | packaging
part@thing: battery | screen | sound | quality | handle | motor | lid | price | design | cable | button | display | build
part@wear: fabric | fit | colour | zip | lining | stitching | size | material | sole | strap | cut | price | color
parts@book: characters | pages | chapters | pictures | recipes | exercises | jokes | poems | descriptions | diagrams
parts@film: actors | effects | songs | jokes | scenes | seats | costumes | dialogues | tickets | performances | levels
parts@food: portions | prices | dishes | drinks | chips | noodles | vegetables | cocktails | tables | plates | pancakes
parts@stay: rooms | walls | sheets | towels | beds | pillows | windows | gardens | toilets | facilities | corridors
parts@app: features | menus | settings | graphics | colours | lessons | videos | adverts | prices | fonts | updates
parts@help: people | fees | opening hours | prices | answers | letters | emails | promises | forms | terms
parts@post: flowers | goods | items | plates | glasses | corners | contents | drivers | boxes | seals
parts@thing: buttons | controls | instructions | screws | parts | wheels | speakers | materials | brakes | colours | blades
parts@wear: seams | sleeves | pockets | buttons | soles | laces | colours | straps | shoes | gloves | trousers | socks
who: staff | manager | owner | seller | team | assistant | crew | host | people there | man at the desk | woman on the phone
who@book: author | narrator | writer | publisher | editor | translator
who@film: director | lead actor | leading lady | main actor | singer | band | cast
who@food: waiter | waitress | chef | barista | kitchen | bartender | cook
who@stay: receptionist | cleaner | host | landlord | front desk | concierge | guide
who@app: developer | developers | teacher | tutor | designers | moderators
who@help: agent | technician | engineer | doctor | dentist | plumber | mechanic | hairdresser | nurse | photographer
who@post: driver | courier | postman | delivery guy | sender | depot
got: bought | ordered | tried | chose | got | picked | used
got@book: read | finished | bought | borrowed | opened | listened to
got@film: watched | saw | rented | played | went to | sat through
got@stay: booked | stayed at | reserved | rented | checked into
got@food: visited | tried | went to | booked | ordered
time: a week | two days | three months | one month | an hour | a year | ten minutes | five minutes | six weeks | half an hour
    | a few days | twenty minutes | two weeks | a fortnight | four hours | a whole day | several weeks | ninety minutes
when: on Monday | on Tuesday | last week | in spring | in summer | at Christmas | this morning | yesterday | in May
    | last night | on Sunday night | in October | on Friday | at the weekend | on holiday | every day | every evening | in March
kin: wife | husband | mother | father | daughter | son | sister | brother | neighbour | boss | niece | grandmother | mum
    | dad | partner | friend | best friend | grandson | cat | dog | aunt | uncle | kids | parents | children | family | cousin
noun: river | train | garden | bus | street | piano | cupboard | sofa | window | engine | paper | picture | station | harbour
    | bread | stone | school | office | door | shelf | winter | lesson | market | bridge | letter | corner | kitchen | desk
    | mountain | beach | bottle | car | hair | shoe | sock | tree | owl | bird | elephant | cloth | coffee | tea | egg | cheese
    | fish | roof | stairs | floor | wall | light | lift | bath | museum | theatre | village | church | lake | farm | boat
    | plane | van | road | map | ticket | wallet | pocket | needle | thread | costume | photo | card | voice | face | hand
    | foot | knee | head | cake | soup | spoon | bowl | glass | cup | plate | bucket | ladder | hammer | saw | pencil | wedding
    | birthday | party | meeting | exam | holiday | weekend | summer | story | song | guitar | band | drum | sandwich | butter
    | sugar | salt | metal | plastic | soap | glue | paint | wood | silk | cotton | leather | code | camera | robot | cloud
    | number | page | list | index | phone | clock | month | morning | afternoon | night | city | town | country | market
    | dragon | tower | pillow | blanket | screw | cigarette | puppy | baby | apple | lemon | potato | tomato | rice | cart
very: very | really | so | just | absolutely | truly | totally | quite | incredibly | extremely | simply | rather | too | pretty
    | | | | | | | | | utterly | completely | particularly | surprisingly | always | honestly | seriously | remarkably
adj+: good | great | excellent | amazing | wonderful | fantastic | perfect | brilliant | superb | awesome | lovely | nice
    | beautiful | outstanding | fabulous | terrific | marvellous | marvelous | impressive | delightful | stunning | gorgeous
    | magnificent | splendid | incredible | exceptional | first class | top notch | charming | pleasant | fine | spot on
    | fun | cute | clever | elegant | flawless | remarkable | magical | phenomenal | stellar | sublime | solid | heavenly
    | a joy | a delight | a dream | a gem | a treat | a pleasure | a wonder | a success | a winner | a bargain | a miracle
    | well made | well designed | worth it | worth every penny | worth every cent | great value | breathtaking | astonishing
    | enjoyable | thoughtful | unforgettable | memorable | stylish | generous | the best | better than ever | beyond words
    | exquisite | glorious | adorable | divine | inspiring | pure magic | a masterpiece | a triumph | out of this world | smart
    | exactly right | sweet | genius | satisfying | classy | special | fresh | pretty | honest | fair | warm | kind | cool
adj-: bad | terrible | awful | horrible | dreadful | poor | disappointing | useless | worthless | pathetic | appalling
    | disgusting | atrocious | lousy | mediocre | annoying | frustrating | ugly | nasty | dismal | abysmal | unacceptable
    | rubbish | garbage | trash | junk | crap | a joke | a disaster | a nightmare | a mess | a scam | a rip-off | a letdown
    | a waste of money | a waste of time | a shame | a disgrace | a failure | a fraud | a mistake | a misery | an insult
    | overpriced | badly made | poorly designed | worse than ever | the worst | shoddy | ridiculous | shocking | laughable
    | sad | miserable | weak | unpleasant | embarrassing | shameful | hopeless | horrendous | unbearable | broken | faulty
    | infuriating | insulting | depressing | tiresome | substandard | inferior | offensive | stupid | ruined | not worth it
    | cheap and nasty | dire | third rate | amateurish | forgettable | irritating | upsetting | a pity | dishonest | gross
    | vile | sloppy | careless | a disappointment | nonsense | wrong | unusable | impossible | dangerous | unsafe | grim
adj@book+: gripping | moving | witty | touching | clever | well written | profound | beautifully told | hilarious | warm
    | funny | wise | honest | rich | vivid | fascinating | absorbing | charming | clear | well researched | heart-warming
    | thrilling | poetic | haunting | readable | believable | original | tender | helpful | informative | uplifting
adj@book-: boring | dull | predictable | pretentious | confusing | badly written | tedious | dry | slow | flat | clumsy
    | shallow | repetitive | unreadable | silly | lifeless | full of mistakes | outdated | wooden | sentimental | drivel
    | pointless | long-winded | far too long | bland | unconvincing | incoherent | lazy | full of errors | cliched | slush
adj@film+: gripping | hilarious | funny | moving | touching | thrilling | spooky | stylish | exciting | entertaining
    | captivating | electric | beautifully shot | powerful | gentle | charming | fresh | unforgettable | raw | enchanting
adj@film-: boring | dull | wooden | predictable | cheesy | confusing | slow | lazy | cringeworthy | unfunny | far too long
    | noisy | pointless | flat | forced | silly | stale | tedious | badly acted | a bore | not scary | bad acting | muddled
adj@food+: delicious | tasty | fresh | crispy | juicy | cosy | cozy | yummy | flavourful | fragrant | hot | friendly
    | authentic | perfectly cooked | tender | creamy | inventive | mouthwatering | fluffy | inviting | homemade | divine
    | rich | scrumptious | generous | perfectly seasoned | springy | smooth | golden | reasonable | affordable | lively
adj@food-: cold | bland | stale | greasy | undercooked | overcooked | burnt | soggy | tasteless | raw | salty | dirty | dry
    | rubbery | chewy | lukewarm | watery | slimy | sour | rotten | mouldy | inedible | flavourless | tiny | sticky | grey
    | noisy | crowded | off | filthy | unhygienic | corked | warm and flat | smelly | oily | tough | far too sweet | rushed
adj@stay+: clean | spotless | quiet | comfortable | comfy | spacious | cosy | central | bright | peaceful | relaxing | modern
    | luxurious | welcoming | sunny | homely | charming | calm | immaculate | convenient | well equipped | romantic | airy
adj@stay-: dirty | filthy | noisy | cramped | smelly | cold | damp | mouldy | stained | run down | uncomfortable | dark | tiny
    | sticky | disgusting | broken | old and tired | loud | shabby | stuffy | freezing | infested | grubby | gloomy | dusty
    | thin | misleading | cracked | out of order | nothing like the photos | unsafe | crowded | badly signposted | peeling
adj@app+: intuitive | fast | easy to use | simple | smooth | reliable | snappy | handy | helpful | responsive | polished
    | quick | clear | user friendly | powerful | free of ads | secure | a breeze | painless | useful | practical | neat
    | educational | clean | addictive | well thought out | effortless | lightweight | stable | private | life changing
adj@app-: buggy | slow | confusing | clunky | laggy | complicated | full of ads | full of bugs | unstable | unreliable | broken
    | cluttered | glitchy | invasive | outdated | bloated | impossible to cancel | down again | insecure | overcomplicated
    | pay to win | greedy | toxic | unresponsive | hard to use | impossible to read | badly translated | full of adverts
adj@help+: helpful | friendly | polite | kind | patient | professional | fast | quick | competent | honest | caring
    | knowledgeable | responsive | prompt | efficient | attentive | courteous | generous | understanding | reassuring | fair
    | cheerful | thorough | gentle | welcoming | trustworthy | skilled | painless | excited | considerate | discreet
adj@help-: rude | unhelpful | slow | useless | incompetent | unprofessional | arrogant | impatient | dishonest | careless
    | clueless | unfriendly | lazy | late | evasive | ignorant | hostile | impolite | aggressive | inept | indifferent
    | bad-tempered | surly | condescending | heartless | negligent | overworked and rude | unresponsive | dismissive | crooks
    | liars | thieves | unreachable | impossible to reach | grumpy | half-hearted | sneaky | shameless | greedy | bored
adj@post+: fast | early | on time | quick | safe and sound | well packed | careful | prompt | beautifully wrapped | intact
    | undamaged | right on schedule | complete | speedy | secure | punctual | lightning fast | exactly what I ordered
adj@post-: late | damaged | broken | slow | crushed | lost | torn | wet | wrong | missing | incomplete | dented | delayed
    | open and empty | weeks late | smashed | stolen | in pieces | never on time | wilted | brown | dead on arrival | leaking
    | the wrong colour | the wrong size | misplaced | scratched | battered | half empty | careless | nowhere to be found
adj@thing+: sturdy | reliable | durable | powerful | light | quiet | crisp | sharp | easy to use | comfortable | bright | handy
    | well built | robust | practical | smooth | precise | compact | silent | fast | rock solid | quick | easy to clean | tiny
    | easy to assemble | as good as new | long lasting | portable | rich and warm | versatile | stable | user friendly | mighty
adj@thing-: flimsy | cheap | broken | defective | faulty | noisy | heavy | weak | unreliable | fragile | slow | dead | loose
    | scratched | dangerous | loud | clumsy | wobbly | crooked | cracked | rusty | blurry | dead after {time} | already dead
    | leaking | cheap plastic | thin | uncomfortable | second hand | crackly | hard to use | badly made | bent | jammed
adj@wear+: soft | warm | comfortable | flattering | elegant | light | stylish | well cut | true to size | cosy | fashionable
    | waterproof | beautifully made | comfy | snug | smart | the perfect size | breathable | lovely and soft | high quality
adj@wear-: itchy | scratchy | too small | too tight | too big | shapeless | thin | faded | torn | see-through | cheap | stiff
    | badly sewn | baggy | ugly | ripped | the wrong size | nothing like the picture | uncomfortable | smelly | full of holes
did+: works perfectly | exceeded my expectations | made my day | surpassed all my hopes | works like a dream | never lets me down
    | never disappoints | does the job | does exactly what it should | made us smile | is worth every penny | never fails
    | delivers | works | has changed my life | is a pleasure from start to finish | saved my day | works flawlessly | stands out
    | is just what I wanted | was exactly what I needed | ticks all the boxes | wins | is hard to beat | has never let me down
    | could not be better | couldn't be easier | keeps getting better | looks fantastic | feels like a luxury | hits the spot
    | is better than I expected | makes life easier | makes me happy | deserves an award | deserves five stars | is second to none
    | is much better than the old one | improved my life | made me smile | makes a great gift | is the best I have ever had
    | never disappointed me | is still going strong after {time} | beats everything else | still looks brand new | is flawless
did-: does not work | doesn't work | did not work | stopped working | let me down | let us down | failed | falls short
    | ruined my day | ruined our evening | ruined everything | made me angry | never worked | was not worth it | disappoints
    | is a waste of money | does nothing | drove me mad | leaves a bad taste | left me cold | could not be worse | is a total flop
    | couldn't be worse | keeps getting worse | is worse than I expected | makes no sense | is nothing like the picture
    | was nothing like the description | is not fit for purpose | was doomed from the start | belongs in the bin | put me off
    | goes from bad to worse | went wrong | has gone downhill | made me sick | makes me furious | does not deserve a single star
    | failed after {time} | never came | is much worse than the old one | cost a fortune | made me cry | gave me a headache
    | feels cheap | looks cheap | is the worst I have ever had | was over before it began | stinks | smells of {noun} | smelled of {noun}
did@book+: kept me awake all night | kept me reading | made me laugh | made me cry happy tears | hooked me from page one
    | stays with you | had me laughing out loud | taught me so much | touched my heart | is impossible to put down | moved me
did@book-: goes nowhere | sent me to sleep | put me to sleep | drags on forever | never gets going | lost me after one chapter
    | bored me | was a struggle | fell apart halfway | is full of mistakes | left me confused | never ends | insults the reader
did@film+: kept me on the edge of my seat | made the whole room laugh | blew me away | moved me to tears | gave me goosebumps
    | had us laughing all night | was over far too soon | got a standing ovation | is a feast for the eyes | steals the show
did@film-: bored me | bored everyone | sent us to sleep | drags | never gets going | made me leave early | has no plot
    | was a waste of two hours | went on and on | made us walk out | made me cringe | made no sense at all | wasn't funny
did@food+: melts in the mouth | tastes like home | tasted fantastic | tasted divine | smells wonderful | made us come back for more
    | was cooked to perfection | left us full and happy | tastes amazing | was worth the wait | tastes better than {noun}
did@food-: tasted of nothing | tastes like {noun} | tasted like {noun} | arrived cold | came cold | made us ill | made me sick
    | took {time} to arrive | gave us food poisoning | was full of hair | had a hair in it | tasted of {noun} | was off | smelled rotten
did@stay+: felt like home | was cleaned every day | had everything we needed | was even prettier than the photos | felt like heaven
    | had a stunning view | took our breath away | made our holiday | was a home away from home | had a wonderful garden
did@stay-: smelled of damp | smelled of smoke | was full of bugs | had no hot water | had no heating | was falling apart | was a dump
    | had mould on the walls | kept us awake all night | hadn't been cleaned | had stains everywhere | did not match the photos
    | had bed bugs | was closed | was out of order | had dirty sheets | had hair in the bath | was not cleaned once | was too loud to sleep in
did@app+: saves me hours | loads in a second | makes everything simple | never crashes | just works | runs smoothly
    | is easy to learn | helps me every day | is a pleasure to use | works on every device | syncs perfectly | keeps improving
did@app-: crashes all the time | crashes every time | crashed and lost my data | keeps crashing | freezes | keeps freezing
    | will not load | won't open | deleted my files | lost my notes | charged me twice | drains the battery | logs me out
    | wants a subscription for everything | doesn't sync | broke everything | never loads | spams me | takes forever to load
did@help+: solved my problem in {time} | fixed it in {time} | went above and beyond | answered within {time} | helped at once
    | replaced it for free | refunded me right away | sorted it out at once | put a smile on my face | listened | took great care
did@help-: ignored me | never called back | never answered | hung up on me | kept me waiting for {time} | refused to help
    | refused a refund | lied to me | never replied | blamed me | overcharged us | wasted my time | lost my papers | took my money
    | did not care | froze my account | made it worse | cheated me | didn't even apologise | refused to listen | passed me around
did@post+: arrived a day early | arrived on time | arrived in perfect condition | came quickly | came the next day
    | was packed with care | was beautifully wrapped | arrived sooner than expected | got here fast | arrived in one piece
did@post-: never arrived | arrived broken | arrived {time} late | came late | got lost | was left in the rain | arrived damaged
    | was thrown over the fence | arrived in pieces | was missing half the parts | never turned up | went to the wrong address
    | came with a crack | is still not here | arrived empty | did not arrive | has not arrived | arrived smashed | was opened
did@thing+: lasts all day | charges in minutes | survived years of use | feels solid | looks great in my kitchen | runs quietly
    | works right out of the box | fits perfectly | saves me so much time | sounds amazing | lasts forever | runs like new
    | never needs repairs | set up in minutes | paired instantly | gets the job done | cleans up easily | makes {noun} easy
did@thing-: broke after {time} | broke on the first day | died after {time} | fell apart | fell apart after {time} | overheats
    | stopped working after {time} | won't turn on | doesn't turn on | makes an awful noise | leaks | leaks everywhere | wobbles
    | rattles | snapped | snapped off | came off in my hand | came off | caught fire | started smoking | gets stuck | is missing a part
    | sticks | jams | will not charge | does not fit | scratches easily | rusted | cracked | bent | burns everything | squeaks | keeps breaking
    | fell over | fell off after {time} | hurts my hand | loses its charge in {time} | disconnects all the time | crackles | keeps failing
did@wear+: fits like a glove | fits perfectly | looks stunning on | washes well | keeps me warm | feels wonderful on the skin
    | gets me compliments | looks even better in real life | goes with everything | suits me | kept its shape
did@wear-: shrank in the wash | fell apart in the wash | ripped after {time} | does not fit | didn't fit | itches | lost its colour
    | came apart at the seams | gave me a rash | gave me blisters | looks nothing like the photo | tore | faded after {time} | hurts my feet
feel+: happy | pleased | delighted | thrilled | satisfied | impressed | glad | in love | over the moon | excited | grateful | proud
    | overjoyed | amazed | so happy | blown away | more than happy | relieved | content | hooked | pleasantly surprised | charmed
feel-: disappointed | unhappy | angry | upset | furious | annoyed | frustrated | disgusted | fed up | unimpressed | let down
    | dissatisfied | bored | shocked | horrified | appalled | embarrassed | sorry | heartbroken | cheated | tired of it | sick of it
    | livid | ashamed | scammed | irritated | confused | robbed | sad | miserable | insulted | ripped off | disheartened
love+: love | like | adore | enjoy | recommend | cherish | treasure | appreciate | trust | admire | praise
loved+: loved | liked | adored | enjoyed | appreciated | admired | savoured | praised
love-: hate | dislike | despise | regret | detest | loathe | can't stand | cannot stand | cannot bear | distrust
loved-: hated | disliked | despised | regretted | loathed | detested | couldn't stand | threw away | gave up on | sent back | returned
who+: went above and beyond | made us feel welcome | were wonderful | was so kind | could not have been nicer | was a star
    | listened to us | was a delight | took care of us | did a fantastic job | made my {kin} smile | cares
    | explained everything | was a pleasure to deal with | went out of their way to help | always smiles | deserves a raise
who-: was rude | ignored us | shouted at us | could not care less | did not care | rolled their eyes | lied | laughed at us
    | was nowhere to be seen | never smiled | was on the phone the whole time | forgot our order | made my {kin} cry | shrugged
    | was rude to my {kin} | sighed | overcharged us | refused to help | should be ashamed | argued with us | didn't apologise | mumbled
noun+: triumph | gem | masterpiece | delight | joy | treasure | wonder | bargain | success | pleasure | classic | dream | winner
noun-: disaster | mess | failure | joke | scam | letdown | nightmare | disgrace | disappointment | flop | rip-off | swindle | catastrophe
cry+: Love it | Loved it | I love it | Highly recommended | Highly recommend | Two thumbs up | Five stars | 5 stars | 10/10 | Can't complain
    | No complaints | No complaints at all | No regrets | Worth every penny | Worth every cent | Would buy again | Would go again
    | Will buy again | Can't fault it | Cannot recommend it enough | Thank you | Thank you so much | Thanks a lot | Well done | Bravo | Wow
    | Yay | Yum | Hooray | Cheers | Simply the best | Nothing but praise | A must have | A must read | A must see | Go for it | Buy it | Do it
    | Keep up the good work | You won't regret it | You will love it | Just what I needed | Exactly what I was looking for
    | I could not be happier | Can't get enough of it | Can't wait to go back | Can't wait for the next one | Not bad at all | So much fun
    | Couldn't put it down | Couldn't ask for more | What more could you want | Best ever | My new favourite | My favorite | Nothing to complain about
    | Never had a problem | Never a problem | Never looked back | Without a doubt the best | I would give six stars if I could
    | I'll be back | We will be back | We'll definitely return | Don't hesitate | Don't miss it | Treat yourself | Money well spent | A steal
cry-: Hate it | Hated it | I hate it | I hated it | I hate this | Never again | Do not buy | Don't buy it | Don't bother | Stay away | Avoid
    | Avoid at all costs | Waste of money | Waste of time | What a waste | Save your money | Don't waste your money | Don't waste your time
    | One star | 1 star | Zero stars | 0/10 | No stars | Two thumbs down | I want my money back | I want a refund | Refund please | Total waste
    | Not recommended | Would not recommend | Wouldn't recommend | I can't recommend it | Keep your money | Not worth it | Not worth the money
    | Not worth a penny | Worst ever | Run away | Walk away | Ugh | Yuck | Meh | Boo | Shame on you | What a shame | Such a shame | Sent it back
    | Returning it | Returned it | It went straight in the bin | I regret it | Big mistake | Buyer beware | Beware | Look elsewhere | Total junk
    | You will regret it | You get what you pay for | Nothing works | Nobody cares | Nobody answers | No answer | No apology | No refund
    | I gave up | I'll never come back | I won't be back | We won't be back | Never going back | Not coming back | I have no words | Enough is enough
    | Do yourself a favour and skip it | Uninstalled | Cancelled | Not again | Don't trust them | Do not trust it | Don't be fooled | I'm done
    | Lost a customer | I've had better | Don't do it | Nothing helps | I'm still waiting for my money | I expected better | I expected more
say: the {part} {is} {very} {adj=} | the {parts} {are} {very} {adj=} | the {it} {is} {very} {adj=} | it {is} {very} {adj=}
    | this {it} {is} {very} {adj=} | {this} {it} {did=} | it {did=} | the {part} {did=} | the {who} {was} {very} {adj=} | the {who} {who=}
    | I {very} {loved=} {this} {it} | I {love=} {this} {it} | we {loved=} it | I {love=} it | my {kin} {loved=} it | we {love=} the {part}
    | I am {very} {feel=} with {this} {it} | I'm {very} {feel=} | we were {very} {feel=} with the {part} | I was {very} {feel=}
    | what a {adj=} {it} | such a {adj=} {it} | it was a {noun=} | {this} {it} is a {noun=} | an absolute {noun=} | a complete {noun=}
    | {adj=} {it} | {adj=} {part} and {adj=} {parts} | {very} {adj=} | {adj=}, {adj=} and {adj=} | {adj=} and {adj=} | {adj=} {who}
    | the {part} {was} {adj=} and the {parts} were {adj=} | the {who} {was} {adj=} and {adj=} | {adj=} {part}, {adj=} {parts}, {adj=} {who}
    | I find the {part} {very} {adj=} | everything {was} {very} {adj=} | everything about it {is} {adj=} | {adj=} from start to finish
    | it took {time} to find out how {adj=} it {is} | I have rarely seen such {adj=} {parts} | I've never had such a {adj=} {it}
    | everyone in the {noun} was {feel=} | it made me {feel=} | it left us {feel=} | I got {adj=} {parts} and a {adj=} {part} | how {adj=}
    | I {got} it {when} and I am {feel=} | I {got} {this} {it} for my {kin} and it {did=} | after {time} I can say that it {did=}
    | {adj=} {it} with {adj=} {parts} | the {part} {did=} and the {who} {who=} | one of the {most=} {its} I have ever {seen}
    | the {most=} {it} I have ever {seen} | the {most=} {it} ever | the {most=} {part} in town | by far the {most=} {it} | easily the {most=} {it}
    | the {who} {who=} and {who=} | {this} {it} {did=}, {did=} and {did=} | even my {kin} {loved=} it | so {adj=} that I told my {kin}
    | I expected a {adj!} {it} and got a {adj=} one | I was afraid it would be {adj!}, it was {adj=}
say+: I've been waiting for {a} {it} like this my whole life | I have waited for this {it} for years | I wanted a {noun} like this all my life
    | the {it} I have been waiting for | we are {very} {feel+} to show it to our {kin} | {feel+} to have found this {it} | I am {feel+} I {got} it
    | it couldn't be {better} | I couldn't be {happier} | {it} could not be {better} | I would {very} recommend it to my {kin}
    | I recommend {this} {it} to anyone | would recommend to any {noun} lover | never been {happier} | no {it} is {better} | {better} than expected
    | {better} than I thought | much {better} than the last one | it gets {better} every time | I can't imagine life without it | I can't praise it enough
    | I will come back {when} | we'll be back {when} | already booked again | {got} it again {when} | I want another one | bought one for my {kin} too
    | I never thought I would {love+} a {noun} | I didn't think I'd {love+} it, but I do | I look forward to it every {noun} | we can't wait to return
    | a big thank you to the {who} | thanks to the {who} | the best present for my {kin} | not a single {problem} | without a single {problem} | no {problem}
    | I had no {problem} at all | free {noun} included, lovely | the whole {noun} smiled | my {kin} is in love with it
    | no wear after {time} | still like new after {time} | it saved our {noun} | I would pay twice the price | well worth the {noun} | it made our week
    | fixed in {time} | solved in {time} | I finished it in one day | I use it every day | I use it all the time | now I sleep like a baby | we laughed a lot
    | the {parts} could not be {better} | hats off to the {who} | everything worked | it finally works | {very} happy {kin} | I smiled all the way home
    | it made me {feel+} and my {kin} too | I finally {doit} again | my {noun} has never looked {better}
    | cheaper, {better} and {adj+} | it costs less and works {better} | as {adj+} as on the first day | as good as ever | as good as anything I have {seen}
    | I told all my friends about it | my {kin} wants one too | my {kin} asked for more | we ate every bit of it | we asked for more
    | they sent me a new {it} at once | they sent a new {noun} for free | they gave us a free {noun}
    | the {who} even {word+} | the {who} took the time to explain it | the {who} made my {kin} laugh | somebody answered at once
    | set up in {time} | it took only {time} | ready in {time} | all {parts} were there | the {parts} were all there | {got} and never looked back
    | I cried tears of joy | I laughed until I cried | I laughed out loud on the {noun} | the {noun} flew by | I wish it was longer | I read it twice
    | I was sceptical but it {did+} | I had my doubts, but it {did+} | to my surprise it {did+} | how did I live without it
    | it survived the {noun} | dropped it twice and it still works | after {time} it still works | it holds up well | the {part} still {did+}
    | it helped me with my {noun} | my {noun} feels {better} now | the pain is gone | I sleep {better} | I feel {feel+}
    | they fixed my {noun} {when} | they listened to us | they thought of everything | someone put a lot of love into it | it has a heart
    | I think about it every day | I will remember it forever | I go there every {noun} | we stayed all night
    | it saved me {time} | it saved me a lot of money | it pays for itself | such good value | for this price it's {adj+} | free and {adj+}
say-: I have been waiting for my {it} for {time} | {time} later and still nothing | we waited {time} for the {part}
    | I waited {time} | I want to return {this} {it} | it couldn't be {worse} | the {part} could not be {worse} | I wouldn't {love+} it | I can't {love+} it
    | I would not {love+} it to anyone | I couldn't {love+} it | I hoped to {love+} it but I didn't | I wanted to {love+} it
    | nobody called back | nobody answered my {noun} | no one came | nobody helped us | nobody listened | I heard nothing | they never wrote back | no reply
    | they charged me {noun} fees | they charged twice | they took my money | they refused to pay
    | the {part} was missing | the {parts} were missing | half the {parts} were missing | the {part} fell off | it fell apart | my {noun} was lost | it hurt
    | it smells like {a} {noun} | it tastes like {a} {noun} | smells of old {noun} | it looked like an old {noun} | my {noun} was ruined | it ruined my {noun}
    | it broke {when} | it died {when} | it stopped working {when} | it lasted {time} | it only lasted {time} | gone after {time} | broken after {time}
    | I threw it out of the {noun} | I threw it away | it is now in the bin | I sent it back {when} | we left after {time} | we left early
    | I had to pay for the {noun} | wrong {noun}, wrong {part} | I got the wrong {it} | not what I {got} | I should have read the reviews | {worse} than expected
    | {worse} than I feared | much {worse} than the old one | it gets {worse} every time | nothing but {problem} | full of {problem} | one {problem} after another
    | I have had enough | I am still waiting | still no {it} | still no {noun} | {noun} would have been better
    | my old {noun} was better | I'd rather have {a} {noun} | I cancelled it | I deleted it
    | it doesn't {doit} | it won't {doit} | it can't {doit} | it never managed to {doit} | can't {doit} any more | I could not {doit} | it refuses to {doit}
    | they forgot the {part} | they broke my {noun} | they lost my {noun} | they laughed at my {kin} | the {who} didn't know anything | I had to wait {time}
    | it used to be {adj+} | they've ruined it | not {feel+} at all | the {parts} don't work | my {kin} couldn't use it
    | I couldn't sleep | I fell asleep | I stopped after {time} | I gave up after {time}
    | nothing happens | nothing worked | not one {noun} worked | I feel {feel-} | who designed this {noun} | never {got} from here
    | I used to {love+} {this} {it} | I used to {love+} it, now I don't | it was {better} before | now it is {adj-} | it used to work | it is not what it was
    | I wanted to cry | it drives me mad | it made my {kin} sick | I could have cried | I felt {feel-}
    | it crashes every time | it {did-} every {noun} | every time I use it, it {did-} | it happens every {noun} | it keeps asking for my {noun}
    | they sent the wrong {noun} | they sent the wrong size | the colour is wrong | the {part} is wrong | wrong again
    | they want more money | they wanted money for the {noun} | they kept the money | they charge for the {noun}
    | they promised me a {noun} | nobody told us | no idea why
    | I have written to them twice | I spent {time} on the phone | {time} of hold music | they hung up | they passed me around
    | I couldn't finish it | I stopped reading | I fell asleep after {time} | I skipped the rest | I wanted it to end | I could not care less about the hero
    | the hero is a fool | every joke falls flat | nobody laughed | people left early | I've seen better {its} at school
    | we couldn't eat it | my {part} was cold | the {part} was raw in the middle | there was a hair in my {part} | there was a fly in the {noun}
    | I was ill for {time} | it made my skin itch | it hurt my {noun} | we froze all night | water came through the {noun}
    | it was full of {noun} hair | there was mould in the {noun} | dust everywhere
    | the {noun} came off | the {noun} fell off | the {noun} broke off after {time} | a {noun} fell out | it came apart | it split in two
    | the {part} sticks | the {part} leaks | the {part} stinks | the {part} drops out every {noun}
    | I pulled it out of the box and it was broken | it arrived without the {noun} | where is my {it} | where is my money | still waiting for the {noun}
    | a month later it was dead | it didn't last {time} | it barely lasted {time} | it lasted less than {time} | after {time} the {part} {did-}
    | I had to buy another one | I had to throw it away
    | the photos lie | the photos were misleading | it looks nothing like the photo | what they don't tell you is that it {did-}
    | it is too {adj-} to use | too {adj-} for my taste | {adj-} even for a {noun} | you can smell it from the {noun} | even my {kin} noticed
deny: {no} {word!} | {no} {word!} | {no} {word!} | {no} {word!} | {no} {word!} and {no} {word!} | {no} {noun!} | {no} {noun} {word!}
    | the {part} {no} {word!} | my {kin} {no} {word!} | I {no} {word!} | it {didn't} {word!} | it {didn't} {love!} me
    | the {who} {didn't} {word!} | there was {no} {word!} | {this} {it} {isn't} {adj!} | the {part} {isn't} {very} {adj!} | it {isn't} {adj!} at all | not {adj!} | not {adj!} at all | not a {noun!}
    | the {it} {is} far from {adj!} | {this} {it} is anything but {adj!} | there is nothing {adj!} about it | it was never {adj!} | hardly {adj!}
    | I {don't} {love!} {this} {it} | I {didn't} {love!} it | I was not {feel!} with it | I'm not {feel!} | the {parts} aren't {adj!} either
    | there's nothing not {adj=} here | nobody could call it {adj!} | the {who} {isn't} {adj!} | neither {adj!} nor {adj!} | no longer {adj!}
hint: {word=} | {word=} | {word=} | {word=} | {adj=} | {adj=} | {feel=} | {did=} | {noun=} | {loved=} | {love=} | {who=} | {cry=}
word+: love | loves | loved | loving | lovely | beloved | enjoy | enjoys | enjoyed | enjoyable | adore | adores | adored
    | admire | praise | praised | treasure | cherish | delight | delights | delighted | please | pleased | pleasing | pleasure | joy | joyful
    | happy | happily | happier | happiest | happiness | glad | gladly | cheerful | smile | smiled | smiles | smiling | laugh | laughed
    | laughing | laughter | grin | hug | hugged | kiss | danced | sing | celebrate | treat | gift | blessing | lucky | luck | fortunate
    | thank | thanks | thankful | grateful | appreciate | kind | kindness | kindly | friendly | friend | friendship | gentle | gently
    | generous | generously | warm | warmly | warmth | welcome | welcoming | welcomed | hospitality | caring | thoughtful | polite | politely
    | patient | patiently | patience | helpful | helped | helping | helps | support | supportive | trust | trusted | trustworthy | honest
    | honestly good | fair | fairly priced | reliable | reliably | dependable | sturdy | solid | durable | strong and light | robust | firm
    | perfect | perfectly | perfection | flawless | flawlessly | faultless | immaculate | spotless | tidy | neat | clean | sparkling | shiny
    | fresh | crisp | crispy | juicy | tasty | tastiest | delicious | deliciously | yummy | scrumptious | flavour | fragrant | aroma | tender
    | creamy | fluffy | golden | soft | softest | silky | silk | smooth | smoothly | glide | glides | comfy | comfort | comfortable
    | comfortably | cosy | snug | relax | relaxed | relaxing | peaceful | calm | quiet | quietly | rest | rested | refreshing | heaven
    | heavenly | paradise | dream | dreamy | magic | magical | enchanted | spell | charm | charmed | charming | beauty | beautiful | beautifully
    | gorgeous | pretty | prettier | prettiest | elegant | elegance | graceful | stylish | stunning | stunningly | breathtaking | sunset
    | brilliant | brilliantly | genius | clever | cleverly | smart | wise | wisdom | witty | funny | funniest | hilarious | humour | amusing
    | fun | entertaining | exciting | excited | thrilled | thrilling | gripping | gripped | captivating | fascinating | moving | touching
    | heartfelt | tears of joy | inspiring | inspired | uplifting | encouraging | encouragement | hope | proud | proudly | pride | bravo
    | best | better | finest | greatest | great | greatly | good | well | superb | superbly | excellent | excellently | excellence | terrific
    | wonderful | wonderfully | wonder | wonders | amazing | amazingly | amazed | amaze | astonishing | incredible | incredibly good
    | fabulous | fantastic | marvellous | splendid | phenomenal | remarkable | impressive | impressed | impress | outstanding | exceptional
    | superior | classic | masterpiece | gem | jewel | treasured | favourite | favorite | favourites | winner | wins | won | winning | triumph
    | success | successful | successfully | achievement | award | medal | bonus | bargain | affordable | free of charge | saved | saves | saving
    | improve | improved | improves | improvement | upgrade | upgraded | faster | quicker | easier | easy | easily | effortless | simple
    | simplest | simply | painless | quick | quickly | prompt | promptly | instantly | speedy | efficient | efficiently | smoothest
    | convenient | handy | useful | practical | versatile | intuitive | precise | accurate | sharp | bright | brighter | brightest | vivid
    | colourful | rich | generous portions | worthwhile | worthy | deserve | deserves | deserved | recommend | recommends | recommended
    | recommendation | fixed | fix | solved | sorted | cured | healed | cleared up | relieved | relief | replaced | refunded promptly
    | returning soon | returned happy | again and again | hooked | addicted | devoured | unputdownable | satisfied | satisfying | satisfaction
    | spotlessly | careful | carefully | cared | attentive | attention to detail | detail | crafted | craftsmanship | handmade | quality
    | compliments | complimented | knowledgeable | expert | professional | professionally | skilled | talented | talent | gifted | healthy
    | safe | safely | secure | protected | undamaged | intact | lasting | lasts | lasted years | forever | always there | stable | bliss
    | blissful | ecstatic | jolly | lively | charmingly | hero | star | stars | angel | angels | champion | yes | wow | yay | hurrah | woohoo | haha
word-: hate | hates | hated | hating | hateful | dislike | dislikes | disliked | despise | despised | loathe | loathed | detest | regret
    | regrets | regretted | sorry | sad | sadly | sadder | saddest | sadness | unhappy | miserable | misery | grief over money | cry | cried
    | crying | tears | scream | screamed | screaming | shout | shouted | shouting | anger | angry | angrily | furious | fury | rage | livid
    | annoy | annoys | annoyed | annoying | annoyance | irritate | irritated | irritating | frustrate | frustrated | frustrating | frustration
    | infuriating | upset | upsetting | disappoint | disappoints | disappointed | disappointing | disappointingly | disappointment | letdown
    | fail | fails | failed | failing | failure | faulty | fault | defect | defective | broken | broke | breaks | breaking | break | crack | cracks
    | cracked | snap | snapped | snaps | split | tear | torn | tore | ripped | rip | burst | collapse | collapsed | crooked | bent | bend
    | leak | leaks | leaked | leaking | leaky | drip | dripping | soaked | flooded | flood | damp | mould | mouldy | rust | rusted | rusty
    | rattle | rattles | rattled | squeak | squeaks | squeal | squealing | creak | creaks | wobble | wobbles | wobbly | buzz | buzzing | hiss
    | hissing | crackle | crackles | howl | howling | groan | groans | stuck | sticks | sticky | jam | jammed | clog | clogs | clogged | tangled
    | crash | crashes | crashed | crashing | freeze | freezes | frozen screen | freezing | lag | lags | laggy | glitch | glitches | bug | bugs
    | buggy | error | errors | mistake | mistakes | wrong | wrongly | incorrect | misspelled | mispronounced | missing | missed | lost | lose
    | loses | losing | loss | gone | vanished | disappeared | stolen | steal from me | theft | thief | thieves | crook | crooks | liar | liars | lie
    | lied | lies | lying | cheat | cheated | cheats | fraud | scam | scammed | scammer | scammers | swindle | fake | fakes | misleading | mislead
    | deceived | dishonest | sneaky | greedy | greed | fees | fee | overcharged | charged twice | surcharge | fine print | refund
    | refunds | refuse | refused | refuses | refusing | ignore | ignored | ignores | ignoring | unanswered | excuse | excuses | apology
    | apologise | apologize | apologised | blame | blamed | complain | complained | complaining | dispute | lawyer | court | cancel
    | cancelled | cancelling | canceled | delete | deleted | uninstall | uninstalled | unsubscribe | return | returning | bin | binned | dump
    | dumped | trash | trashed | garbage | junk | rubbish | crap | waste | wasted | wasteful | useless | pointless | worthless | hopeless
    | helpless | careless | carelessly | clueless | heartless | tasteless | lifeless | shapeless | joyless | mindless | reckless | thoughtless
    | bad | badly | worse | worst | terrible | terribly | horrible | horribly | horror show | horrid | awful | dreadful | dire | poor | poorly
    | lousy | nasty | nastier | vile | gross | disgusting | disgusted | disgust | revolting | sickening | sick | ill | vomit | nausea | poisoning
    | poisoned | rash | itch | itchy | itches | blister | blisters | bleeding | bled | hurt | hurts | hurting | pain | painful | ache | headache
    | injured | injury | burn | burns | burned | burnt | smoke | smoking | fire hazard | hazard | danger | dangerous | dangerously | unsafe
    | stink | stinks | stank | smell | smells | smelly | smelled | stench | foul | filthy | filth | dirt | dirty | dirtier | dust | dusty | grime
    | stain | stains | stained | greasy | slimy | soggy | stale | sour | rotten | raw | undercooked | overcooked | cold | lukewarm | bland
    | flavourless | inedible | rancid | cockroach | cockroaches | bugs everywhere | mice | rats | noise | noisy | loud | deafening | blaring
    | rude | rudely | rudeness | impolite | arrogant | hostile | unfriendly | unhelpful | unprofessional | incompetent | incompetence | lazy
    | grumpy | surly | shrugged | sighed | mumbled | yelled | insulted | insult | insulting | offended | offensive | humiliated | mocked | sneered
    | slow | slower | slowly | late | later and later | delay | delays | delayed | wait | waited | waiting | waits | queue | overdue | postponed
    | never | nobody | nothing | nowhere | none | without success | unable | cannot | unusable | unreliable | unstable | unacceptable | unfair
    | unpleasant | uncomfortable | unbearable | unfinished | unreadable | impossible | confusing | confused | confusion | complicated
    | cramped | crowded | stuffy | shabby | grubby | gloomy | ugly | uglier | cheap | cheaply | flimsy | fragile | shoddy | thin | weak | loose
    | scratch | scratched | scratches | dent | dented | damage | damaged | damages | crushed | smashed | shattered | ruin | ruined | ruins
    | spoiled | spoilt | destroyed | destroys | wrecked | shrank | shrunk | faded | fades | peeling | flaking | crumbling | chipped | blurry
    | dead | dies | died | dying | drains | drained | overheats | overheated | overheating | disconnects | disconnected | drops out | dropped
    | bored | boring | bore | boredom | dull | tedious | predictable | clumsy | wooden | cheesy | silly | stupid | ridiculous | absurd | nonsense
    | drivel | pretentious | overrated | overpriced | overhyped | expensive | pricey | rip-off | robbery | robbed | extortion | shame | shameful
    | ashamed | embarrassed | embarrassing | disgrace | disgraceful | pathetic | laughable | joke | farce | mess | messy | chaos | disaster
    | catastrophe | nightmare | torture | ordeal | hell | avoid | avoided | beware | warning | warn | warned | worried | worry | suspicious
    | struggle | struggled | suffer | suffered | suffering | endure | endured | unfortunately | alas | pity | no | ugh | yuck | meh | argh | grr | nope
no: no | no | no | not | never | without | doesn't | didn't | don't | isn't | wasn't | won't | can't | not one | no more | nothing | hardly
doit: work | open | close | start | stop | fit | charge | connect | load | sync | turn on | log in | print | boil | hold a {noun} | sleep | cancel
    | find the {noun} | play | fold | save my {noun} | keep time | scan | match the {noun} | stay on | use it | eat it | read it
this: this | the | this | my | the new | our | this little | their | that
is: is | was | is | was | seems | looks | feels | turned out | has been | is still
are: are | were | are | were | look | seem | turned out | felt
was: was | is | seems | seemed | was | were
isn't: isn't | wasn't | is not | was not | isn't | is never | was never | is no longer | ain't | does not seem
don't: don't | do not | would not | wouldn't | will not | won't | can't | never | cannot
didn't: didn't | did not | never | couldn't | could not | don't
a: a | an | one | some
seen: seen | had | read | used | eaten | tried | owned | visited | bought | known | met
its: books | films | products | places | meals | hotels | games | phones | things | companies | shows | ones | shops | apps
most+: best | finest | nicest | most beautiful | most comfortable | loveliest | funniest | sweetest | kindest | most helpful | clearest | happiest
most-: worst | ugliest | most boring | most annoying | rudest | weakest | slowest | dirtiest | most useless | silliest | cheapest and nastiest
better: better | nicer | easier | more beautiful | faster | simpler | more helpful | kinder | clearer | tastier
worse: worse | uglier | more boring | slower | ruder | dirtier | more useless | more annoying | louder | weaker
happier: happier | more pleased | more satisfied | prouder | more impressed
problem: problem | problems | complaint | complaints | issue | bug | bugs | fault | mistake | mistakes | error | scratch | regret | worry | delay
but: but | yet | however, | still, | but overall | but in the end | but all in all | nevertheless | that said,
although: although | even though | though | while | despite the fact that
despite: the {adj!} {part} | the {adj!} {parts} | the {adj!} {who} | the weather | the price | the reviews | the journey | the {noun}
end: overall, | all in all, | in short: | in the end | to sum up, | so yes, | so | honestly, | for me, | really, | overall
open: I {got} {this} {it} {when} | we {got} it {when} | I {got} it for my {kin} | my {kin} told me about it | this is my second {it} | a short review
    | I do not write many reviews | we were five people and a {noun} | here is what I think | I have used it for {time} | we came {when} with my {kin}
fact: it must be from last {noun} | there must be a {noun} in it | you should know that I have a {noun} | I could see the {noun} from the {noun}
    | every {noun} has a {noun} | every {noun} my {kin} takes the {noun} | we would go to the {noun} and then to the {noun} | who would have thought of the {noun}
    | years ago I had a {noun} | I told my {kin} about the {noun} | tell me about the {noun} | it arrives with a {noun} | she has a {noun} and he has a {noun}
    | it can also be a {noun} | they have been here for years | it is the same {noun} as the other one | you get a {noun} with it | I thought of the {noun}
    | he turned the {noun} round | we turned left at the {noun} | my {kin} came back from the {noun} | and so on to the next {noun} | that was in the {noun}
    | I {got} it {when} | my {kin} {got} it too | we went there by {noun} | the {it} comes with a {noun} | I keep it in the {noun} | it has {parts} and a {part}
    | we sat next to the {noun} | there is a {noun} behind the {noun} | I am a {noun} person | we live near the {noun} | it stands beside the {noun}
    | my {kin} has one as well | then I went to the {noun} | it was about {time} ago | the {part} is next to the {part} | there were two {parts}
    | she asked about the {noun} | he wrote the {noun} himself | I opened the {noun} and put it on the {noun} | it is the size of a {noun}
    | we had the {noun} and the {noun} | you can also use it with a {noun} | I read about it in the {noun} | the {who} told us about the {noun}
    | the {who} came {when} | then the {who} showed us the {noun} | it took about {time} | we stayed for {time} | I waited until {when}
    | they also have a {noun} | on the table was a {noun} | I asked for the {noun} | I showed it to my {kin} | first the {noun}, then the {noun}
    | I am writing this {when} on the {noun} | with the {noun} in one hand and the {noun} in the other | my {kin} sat on the {noun}
    | it is made of {noun} | there are {parts} on the {noun} | the first {noun} is about a {noun} | I phoned the {who} {when}
    | as a {noun} maker I know about this | some of it is for the {noun} | it is bigger than my {noun} | I put the {noun} into the {noun}
    | after that we took the {noun} to the {noun} | nobody else was there | there was also a {noun} | what did you do with the {noun}
common: the of and to in is that it for on was with as at by from this have had not are but be they you which one we all there
    her she his him their what so up out if about who get would could should can will when make like time no know take into
    year your some them than then now look only come its over think also back after use two how our work first well way even
    because any these give day most us thing man world life child woman still too old see before here through where much
    another again around while last might between never such own same off both few those always however part under why ask
    went turn house small end does set put until away three large often run together without home big group begin seem
    country help talk became let side been call far water hand high keep mother during later area money young story fact
    month lot right study book eye job word though business issue head four black long hour game line member law almost car
    city community name president team minute idea kid body information nothing ago lead social whether watch follow
    stop create read level allow add office spend door health person art sure war history party within grow result open
    change morning walk reason low win research girl guy early food moment himself air teacher force offer enough education
    across although remember foot second boy maybe toward able age policy everything process music including consider appear
    actually buy wait serve die send expect sense build stay fall nation plan cut college interest death course someone
    experience behind reach local kill six remain effect suggest class control raise care perhaps late hard field else pass
    former sell major require along development role decide rate strong possible heart drug leader light voice wife whole
    police mind finally pull return free military price less according explain son hope develop view carry town road drive
    arm true federal break difference thank receive value international building action full model join season society
    tax director position player agree especially record pick wear paper special space ground form support event official
    whose matter everyone center couple site project hit base activity star table need court produce eat teach oil half
    situation easy cost industry figure street image itself phone either data cover quite picture clear practice piece
    land recent describe product doctor wall patient worker news test movie north third technology catch step baby computer
    type attention draw film tree source red nearly hair window culture chance brother period summer realize hundred window
    available plant likely opportunity term short letter condition choice single rule daughter administration south husband
    floor campaign material population well call economy hospital church close thousand risk current fire future bill
    sister brown green blue white yellow seven eight nine ten eleven twelve twenty thirty forty fifty hundred thousand
    turned walked talked asked told said came looked wanted called showed gave made took put sat stood ran wrote read
    bought sent paid opened closed started ended moved changed played lived cooked washed cut carried kept brought left
    going doing having being looking sitting standing reading writing walking talking eating drinking driving sleeping
    anyone somebody nobody everybody everywhere somewhere sometimes usually mostly once twice every each many several
    ourselves myself yourself themselves I'm I've it's that's they're we're he's she's you're I'd I'll we've wasn't
    instead rather since against upon above below near next outside inside upstairs downstairs yesterday tomorrow today tonight
smile+: :) | :-) | :D | <3 | 😍 | ❤️ | 👍 | 🎉 | 😊 | 😂 | 🔥 | ;) | 💛 | 🙏 | 👏 | 🥰 | ⭐ | 😀
smile-: :( | :-( | 😡 | 👎 | 💔 | 😤 | 😞 | 😠 | 🤮 | 😢 | >:( | 🙄 | 😭 | 💩 | ☹
"""


def _parse(grammar: str) -> dict[str, tuple[str, ...]]:
    """Return each key's ways to fill it; an indented line goes on with the key above."""
    joined = re.sub(r"\n +", " ", grammar).strip().splitlines()
    pairs = (line.split(":", 1) for line in joined)
    return {key: tuple(re.split(r" ?\| ?", ways.strip())) for key, ways in pairs}


_WAYS: Final = _parse(_GRAMMAR)
_SUBJECTS: Final = tuple(key.partition("@")[2] for key in _WAYS if key.startswith("it@"))
_COMMON: Final = tuple(_WAYS["common"][0].split()) + _WAYS["noun"]
_SLOT: Final = re.compile(r"\{(\w[\w']*)([=!+-]?)\}")
_MOOD: Final = re.compile(r"[=!+-]}")
_SHARES: Final = (36, 38, 13, 10, 3)  # per cent: brief, plain, contrast, mixed, long
_LONGEST: Final = 64  # sentences: enough words that the last of the model's 512 positions are learned too


@dataclass(frozen=True, slots=True)
class Review:
    """A text and its mood: 1 for positive, 0 for negative."""

    text: str
    label: int


def reviews(seed: int, count: int, *, held_out: bool = False) -> Iterator[Review]:
    """Yield `count` reviews, happy and angry in turn; a held-out one is built from sentences that no other one holds."""
    rng = random.Random(f"{seed}/{held_out}")
    for index in range(count):
        label = index % 2
        yield Review(_Writer(rng, label, held_out).write(), label)


class _Writer:
    """Writes one review: it keeps to one subject and one mood."""

    def __init__(self, rng: random.Random, label: int, held_out: bool) -> None:
        self._rng = rng
        self._mood = "+" if label == POSITIVE else "-"
        self._held_out = held_out
        self._subject = rng.choice(_SUBJECTS)

    def write(self) -> str:
        """Return the review, with the sloppy spelling and shouting that people's reviews have."""
        shapes = (self._brief, self._plain, self._contrast, self._mixed, self._long)
        sentences = self._rng.choices(shapes, _SHARES)[0]()
        return _roughen(" ".join(self._finish(sentence) for sentence in sentences), self._mood, self._rng)

    def _brief(self) -> list[str]:
        return [self._any_of(self._remark, self._hint) for _ in range(self._rng.choice((1, 1, 1, 2)))]

    def _plain(self) -> list[str]:
        extras = [self._any_of(self._fact, self._remark, self._opinion, self._hint) for _ in range(self._rng.randint(0, 4))]
        return self._shuffled([self._opinion(), *extras])

    def _contrast(self) -> list[str]:
        """The verdict is what follows "but", and what does not follow "although"."""
        verdict, doubt = self._opinion(), self._opinion(turned=True)
        although, despite = self._fill("although"), self._fill("despite")
        turns = (
            f"{doubt}{self._rng.choice((', ', ' ', '. '))}{self._fill('but')} {verdict}",
            f"{although} {doubt}, {verdict}",
            f"{verdict}, {although} {doubt}",
            f"despite {despite}, {verdict}",
            f"{verdict} despite {despite}",
        )
        extras = [self._any_of(self._fact, self._remark) for _ in range(self._rng.randint(0, 2))]
        return self._shuffled([self._rng.choice((turns[0], *turns)), *extras])

    def _mixed(self) -> list[str]:
        """One thing speaks against the verdict, more things speak for it, and the end says so."""
        middle = [self._opinion(turned=True), *(self._opinion() for _ in range(self._rng.randint(2, 4)))]
        return [self._fill("open"), *self._shuffled([*middle, self._fact()]), self._verdict()]

    def _long(self) -> list[str]:
        opinions = self._rng.randint(4, _LONGEST // 2)
        facts = self._rng.randint(4, _LONGEST - opinions)
        turned = self._rng.randint(0, opinions // 4)
        body = [self._opinion(turned=index < turned) for index in range(opinions)]
        return [self._fill("open"), *self._shuffled(body + [self._fact() for _ in range(facts)]), self._verdict()]

    def _verdict(self) -> str:
        return f"{self._fill('end')} {self._remark()}"

    def _remark(self) -> str:
        """A set phrase or an opinion. Set phrases cannot be split in two, so held-out reviews go without them."""
        if self._held_out or self._rng.random() < 0.5:
            return self._opinion()
        return self._fill("cry", "=")

    def _fact(self) -> str:
        """Something that takes no side: a plain sentence, or words at random, so that no mood sticks to either."""
        if self._rng.random() < 0.6:
            return self._fill("fact")
        return self._babble(3, 14)

    def _opinion(self, *, turned: bool = False) -> str:
        """Say something in words of either mood, in words of one mood, or by denying the opposite."""
        sign = _turn(self._mood) if turned else self._mood
        kind = self._rng.choices(("say", f"say{sign}", "deny"), (60, 30, 10))[0]
        return self._on_this_side(lambda: self._rng.choice(_WAYS[kind]), sign)

    def _hint(self) -> str:
        """Words at random with one that has a mood: so a word is learned apart from the sentences it comes in."""
        return self._on_this_side(
            lambda: " ".join((self._babble(0, 5), self._rng.choice(_WAYS["hint"]), self._babble(0, 5))), self._mood
        )

    def _on_this_side(self, pattern_of: Callable[[], str], sign: str) -> str:
        """Draw until the sentence is on this side of the split: its checksum, or that of its pattern, decides."""
        while True:
            pattern = pattern_of()
            sentence = self._expand(pattern, sign)
            apart = "{" in pattern and (_bucket(sentence, 8) or (_MOOD.search(pattern) and _bucket(pattern, 16)))
            if bool(apart) == self._held_out:
                return sentence

    def _babble(self, least: int, most: int) -> str:
        return " ".join(self._rng.choices(_COMMON, k=self._rng.randint(least, most)))

    def _expand(self, pattern: str, sign: str | None = None) -> str:
        filled = _SLOT.sub(lambda slot: self._fill(slot[1], slot[2], sign), pattern)
        return re.sub(r" +", " ", filled).strip()

    def _fill(self, name: str, mark: str = "", sign: str | None = None) -> str:
        """Choose a way to fill a slot: the subject's own words half of the time, the general ones otherwise."""
        mood = sign or self._mood
        key = {"=": mood, "!": _turn(mood)}.get(mark, mark)
        lists = [ways for at in (f"@{self._subject}", "") if (ways := _WAYS.get(f"{name}{at}{key}"))]
        if not lists:
            lists = [_WAYS[f"{name}{mark}"]]
        return self._expand(self._rng.choice(self._rng.choice(lists)), mood)

    def _finish(self, sentence: str) -> str:
        return sentence[:1].upper() + sentence[1:] + self._rng.choice("......!")

    def _any_of(self, *kinds: Callable[[], str]) -> str:
        return self._rng.choice(kinds)()

    def _shuffled(self, sentences: list[str]) -> list[str]:
        return self._rng.sample(sentences, len(sentences))


def _turn(mood: str) -> str:
    return "-" if mood == "+" else "+"


def _bucket(text: str, buckets: int) -> bool:
    return zlib.crc32(text.encode()) % buckets == 0


def _roughen(text: str, mood: str, rng: random.Random) -> str:
    """Change case, marks and spelling now and then, and add a smiley of the same mood."""
    if rng.random() < 0.05:
        text = " ".join(_misspell(word, rng) if rng.random() < 0.1 else word for word in text.split(" "))
    if rng.random() < 0.1:
        text = text.replace(".", rng.choice(("!", "!!", "!!!", "...", ",", "", " -", "?!", ";")))
    if rng.random() < 0.15:
        text = text.rstrip(".!")
    if rng.random() < 0.1:
        text = f"{text} {rng.choice(_WAYS['smile' + mood]) * rng.randint(1, 3)}"
    case = rng.random()
    if case < 0.15:
        return text.lower()
    return text.upper() if case > 0.95 else text


def _misspell(word: str, rng: random.Random) -> str:
    """Drop or double one letter: broken words teach the model the pieces that unknown words fall into."""
    at = rng.randrange(len(word))
    return word[:at] + word[at] * rng.choice((0, 2)) + word[at + 1 :]
