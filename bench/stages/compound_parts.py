"""Word lists of the leak filter: parts of compounds, innocent words and endings."""

from __future__ import annotations

__all__ = ["ENGLISH_ENDINGS", "INNOCENT", "ORDINARY", "PARTS", "TURKISH_ENDINGS"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# English: words that take part in six or more closed compounds of WordNet 3.1 (Princeton University), without
# affixes, names and abbreviations, and common words of fan names. Turkish: by hand.
PARTS = {
    "en": _words(
        """
        action after air alley apple arctic art audio away baby back backed bag bake ball band bank bar bare
        bark barn base basket bath battle bean bear bearer beat bed bee belly belt berry bet big bill bird birth
        bit bite black bladder blast block blood blow blue board boarding boat bob body bond bone book boot born
        bottle bound bow box boy brain bread break breaker bridge brier broad brown brush buck builder bull burn
        bush business butter cab cake call camp can candle car card care cart case cast cat center chair change
        char charge check cheese child chop church city clan claw cloth clothes cloud club coach coal coast coat
        common cook cool cord corn cot cotton count country court cow craft crazy cross crow cub cup current cut
        dad dam dark daughter day dead death deer den desert dew dire dish dock dog door down draw dream dreams
        dress drift drop drum dumb ear ears earth east echo egg eye eyes face fair fall fan fans far fare farm
        fast father feather feed field fight fin finder finger fire fish fit flag flash flat flood flower fly
        foil fold folk foot footed forest form fowl fox frame free friend friends frog front fruit fur game gang
        gar gas gate gear gentle giant girl glass god going gold golden goose grand grass grave gray green grey
        ground guard guardian gum gun hair half hammer hand handed hang happy hard hat haw hay head headed hear
        heart hell hen hide high hold holder hole home honey hood hook hop hopper horn horned horse hot hound
        house howl human hunter hunters ice ink iron jack jam jet joy jungle keeper keepers keeping key kick
        kill killer kin kind king knife lady lair lamp land late law layer lead leaf leather leg let life lift
        light lighter line liner lion list little logo lone long lord love lover mad maid mail main maker making
        mama man march mark market mast master match mate meal meat mega men milk mill mine mini mom money
        monger moon moor more most mother motor mouse mouth mud nail name nation neck needle nest net new news
        night nine north nose nut oil old one out owner pack pad page paint papa paper part pass pat patch path
        paw paws pay peace pen person pet phone pick piece pig pill pipe pit place plain plan plane plant plate
        play plough plow point polar pole pop position post pot power pox press print proof prop pup put queen
        quick race radio rage rain rally rap rat real red rein rest rib ring rise river road rock roll room root
        rope rose rot rough round run sack sad saddle safe sail sales salt sand saw scape school score screen
        screw script sea seed sensitive set shadow shake shank share she shed sheep sheet shirt shoe shoot shop
        shore short shot show sick sickness side sight sighted sign silk silver sing site sitter size skin sky
        sleep slip slow small smith snake snow soap soft some son song soul south space speed spell spike spin
        spirit spoon spot spotted spread spring spur stage stair stall stand star state step stick stock stone
        stop store storm story straight straw stream street string strip style sugar suit sun sure surf sweat
        sweet sword table tail tale tales tame tax taxi tea team thorn thread thumb thunder tight time tiny toe
        toll tom tongue tooth top touch tow town track train trap tree tribe trip try turn ultra view vine waist
        walk walker wall war wart wash waste watch watcher water wave wax wear web weed weight well were west
        wheat wheel whip whisperer white wide wife wild will win wind wine wing wire wise wolf woman wood word
        work worker working works world worm worthiness worthy wright writer yard yellow zone
        """
    ),
    "tr": _words(
        """
        ada adam ak ala alt altın ana anne at ata av ağaç ağız baba bahçe balık bardak baş beyaz boncuk boy
        boynuz boz bozkır burun böcek büyük can dal dağ deniz dere dil diş dişi doğan erkek ev ezgi gök göl göz
        gözlü gül gün günlük güz hala hanım has hava ince ipek iz iç kafa kalp kanat kap kapan kara kaş kol kral
        kraliçe kulak kulübe kum kurt kuyruk kuş köy küre küçük kır kırmızı kız kızıl lale mavi mor ocak orman
        ot otu oğul pati pençe pul reis ruh sarı saç ses sokak su sürü süt tavuk taş tepe tüy tüylü uluyan usta
        uç vadi ya yaban yaprak yavru yavrusu yayla yağ yel yer yeşil yol yuva yuvası yürek yürekli yüz zehir
        çanak çiçek çöl öz üst ışık şah şeker
        """
    ),
}
# Pieces of other words that are ordinary words themselves (kit ten).
ORDINARY = {
    "en": PARTS["en"]
    | _words(
        """
        ad am an and any are as at ate be but by did do for get go got had has he her hi him his if in is it its
        kit lot me met my no nor not of on or our own par pin ran so ten the they this tin to too two up us was
        we who why with yes yet you your
        """
    ),
    "tr": PARTS["tr"]
    | _words(
        """
        acaba ah ait al ama an ancak az bak bari bazen ben beri bir biz bu da daha de der değil dur en et eğer
        fakat gel gibi git hem hep her hiç ile is iyi için iş kadar kaç ki kim mi mu mü ne niye o of ol olan on
        orada oy pek pet sen siz son tam tek tut var ve ver yan yap ye yok öyle şey şu
        """
    ),
}
# Words that contain a word of a shipped trait by chance or with another meaning, chosen by hand from all words of
# WordNet 3.1 and of KeNet, the Turkish WordNet. The Turkish entries are prefixes.
INNOCENT = {
    "en": _words(
        """
        beagle beagles bearable bearer bearers bearing bearings beeline beelines carpet carpets cater catered
        caterer caterers catering caters catkin catkins foxed freebee ganglion harborage harborages honeymoon
        honeymoons lifeline lifelines lionize million millions nectarine nectarines queensland sheepish
        skeptical wolfgang wolfram
        """
    ),
    "tr": _words(
        """
        arif arife ariya ariyet arıcak arındı arınma arınmış arınır arıt arıza atari balad baldır baldız bale
        balerin balgam balina balkon balkı balta balya balçık balık balığ başarı dışarı haşarı kapari kurtar
        kurtul kurtuluş nektarin tasarı uçarı yelkovan
        """
    ),
}
ENGLISH_ENDINGS = _words(
    """
    s es ed ing ings er ers ish ishly ishness like y ie ies ier iest o os hood hoods dom doms ness less lessly
    ful let lets et ets ling lings ship ships ette ettes esque ism isms ist ists ify ified ize ized kin kins
    ward wards wise ity ery eries ly able ian ians ine oid
    """
)
# In plain letters: plural, possessive, case, person, copula, tense and the most common derivations, in all vowel
# harmonies, with buffer letters.
TURKISH_ENDINGS = (
    r"l[ae]r|[iu]m[iu]z|[iu]n[iu]z|m[iu]z|n[iu]z|[ns]?[iu]n?|[iu]?[mn]|y?[iu]|[ny]?[ae]|n?d[ae]n?|n?t[ae]n?|n?[iu]n|"
    r"y?l[ae]|[cg][aeiu]|l[iu][kg]?|s[iu]z|ki|y?d[iu]|t[iu]|[dt][iu]r|y?m[iu]s|c[iu][kg]|l[ae]s|l[ae]n|m[ae][kg]?|"
    r"[iu]?ms[iu]|s[iu]|s[ae]l|sever|gil|das"
)
