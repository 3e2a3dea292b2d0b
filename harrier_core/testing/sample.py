"""Short texts in many scripts, with code, emoji and odd white space: to train tiny tokenizers, and to test with."""

PROMPTS = {
    "web_search_query": "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: ",
    "sts_query": "Instruct: Retrieve semantically similar text\nQuery: ",
    "bitext_query": "Instruct: Retrieve parallel sentences\nQuery: ",
}

PROSE = (
    "Vaccines train the immune system to recognise a virus before the body ever meets it.",
    "A vaccine works by showing the immune system a harmless part of a germ, so that it remembers.",
    "How much protein should an adult eat? About 0.8 grams per kilogram of body weight each day.",
    "The summit of a mountain is its highest point; climbers reach the summit at sunrise.",
    "Postgres keeps every row version until vacuum removes those that no transaction can see.",
    "An index makes a search fast, because the database reads few pages instead of the whole table.",
    "The harrier is a bird of prey that hunts low over fields and marshes, listening for mice.",
    "Bread rises because yeast turns sugar into gas, and gluten in the dough holds the bubbles.",
    "Rivers carry sand from the mountains to the sea, where waves build beaches out of it.",
    "The contract ends when either party gives notice in writing thirty days before the date.",
    "Given a question, retrieve passages that answer the question. Given a web search query, retrieve text.",
    "Les vaccins apprennent au système immunitaire à reconnaître un virus avant la maladie.",
    "Le pain lève parce que la levure transforme le sucre en gaz dans la pâte.",
    "Impfstoffe zeigen dem Immunsystem einen harmlosen Teil des Erregers, damit es ihn später erkennt.",
    "Der Fluss trägt Sand aus den Bergen bis ins Meer, wo die Wellen Strände daraus bauen.",
    "Las vacunas enseñan al sistema inmunitario a reconocer el virus antes de la enfermedad.",
    "Szczepionka uczy układ odpornościowy rozpoznawać wirusa. Rzeka niesie piasek do morza.",
    "Aşılar bağışıklık sistemine virüsü tanımayı öğretir; ekmek maya sayesinde kabarır.",
    "Вакцина учит иммунную систему узнавать вирус. Река несёт песок с гор к морю.",
    "Το εμβόλιο μαθαίνει στο ανοσοποιητικό σύστημα να αναγνωρίζει τον ιό.",
    "اللقاح يعلّم جهاز المناعة كيف يتعرّف على الفيروس قبل المرض.",
    "החיסון מלמד את מערכת החיסון לזהות את הנגיף לפני המחלה.",
    "टीका प्रतिरक्षा प्रणाली को वायरस पहचानना सिखाता है।",
    "টিকা রোগ প্রতিরোধ ব্যবস্থাকে ভাইরাস চিনতে শেখায়।",
    "தடுப்பூசி நோய் எதிர்ப்பு மண்டலத்திற்கு வைரஸை அடையாளம் காண கற்றுக்கொடுக்கிறது.",
    "วัคซีนสอนระบบภูมิคุ้มกันให้รู้จักไวรัสก่อนที่จะป่วย",
    "ვაქცინა ასწავლის იმუნურ სისტემას ვირუსის ამოცნობას.",
    "Պատվաստանյութը սովորեցնում է իմունային համակարգին ճանաչել վիրուսը։",
    "疫苗让免疫系统在生病之前就认识病毒。河流把沙子从山上带到海里。",
    "ワクチンは病気になる前に免疫システムにウイルスを覚えさせます。",
    "백신은 면역 체계가 병에 걸리기 전에 바이러스를 알아보도록 가르친다.",
    "ክትባት የበሽታ መከላከያ ስርዓት ቫይረሱን እንዲያውቅ ያስተምራል።",
)

# Texts that careless handling changes or breaks: white space, composition, invisible characters, several code points.
AWKWARD = (
    "def encode(texts):\n\tfor text in texts:\n\t\tyield model(text)  # tabs, and a newline at the end\n",
    "SELECT id, body\nFROM documents\nWHERE lang = 'fr'\n  AND year >= 2020;\r\n",
    "  two spaces before, two after  ",
    "one\n\n\n\ntwo\t\tthree    four",
    "caf\u00e9 in one code point",  # NFC
    "cafe\u0301 in two code points",  # NFD
    "\u1112\u1161\u11ab\u1100\u1173\u11af is hangul in its parts, \ud55c\uae00 composed",
    "family \U0001f468\u200d\U0001f469\u200d\U0001f467, flag \U0001f1eb\U0001f1f7, thumbs \U0001f44d\U0001f3fd",
    "zero\u200bwidth\u200cjoiners\u200d, a soft\u00adhyphen, \u2066isolates\u2069 and a mark\u200e",
    "\ufefftext behind a byte order mark",
    "no\u00a0break, thin\u2009space, ideographic\u3000space",
    "\u200b",
    "x",
    "{instruction} {text} %s \\n are letters like any other",
    "Instruct: not an instruction\nQuery: but a document that looks like one",
    "a NUL \x00 and a bell \x07 inside",
)
